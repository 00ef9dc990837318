import os

import sqlalchemy

engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    print(connection.execute(sqlalchemy.text("select session_user || ' ' || current_database() as who")).scalar())
