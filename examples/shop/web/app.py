"""A small shop: visits are counted in MySQL, the list of goods is kept in Redis for a minute."""

import json
import os

import pymysql
import redis
from flask import Flask

KEPT_SECONDS = 60

app = Flask(__name__)
cache = redis.Redis(host=os.environ.get("CACHE_HOST", "cache"), decode_responses=True)


def connect() -> pymysql.Connection:
    """Return a connection to the shop's database."""
    return pymysql.connect(
        host=os.environ.get("DATABASE_HOST", "db"),
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"],
    )


def goods(connection: pymysql.Connection) -> tuple[list, str]:
    """Return the goods, and where they came from: Redis, or MySQL once a minute."""
    kept = cache.get("goods")
    if kept:
        return json.loads(kept), "Redis"
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, cents FROM goods ORDER BY name")
        found = [list(row) for row in cursor.fetchall()]
    cache.set("goods", json.dumps(found), ex=KEPT_SECONDS)
    return found, "MySQL"


@app.get("/")
def page() -> str:
    """Count the visit and show the goods."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO visits () VALUES ()")
        connection.commit()
        cursor.execute("SELECT COUNT(*) FROM visits")
        visits = cursor.fetchone()[0]
        found, source = goods(connection)
    lines = "".join(f"<li>{name}: {cents / 100:.2f}</li>" for name, cents in found)
    return f"<h1>Shop</h1><p>Visit {visits}</p><ul>{lines}</ul><p>Goods from {source}</p>\n"


@app.get("/health")
def health() -> str:
    """Answer once both servers do."""
    connect().close()
    cache.ping()
    return "ok\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
