import os

import psycopg2

cursor = psycopg2.connect(os.environ["DATABASE_URL"]).cursor()
cursor.execute("select session_user || ' ' || current_database() as who")
print(cursor.fetchone()[0])
