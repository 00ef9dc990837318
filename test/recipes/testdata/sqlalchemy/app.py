import sys

from engine import engine

for _ in range(20):
    engine.dispose()  # so that each query has a new connection
    with engine.connect() as connection:
        print(connection.exec_driver_sql("select current_user").scalar(), flush=True)
