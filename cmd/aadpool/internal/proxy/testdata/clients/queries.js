// What a service in Node does with its database, by node-postgres.
const assert = require("node:assert");
const { Client, Pool } = require("pg");

async function main() {
  const pool = new Pool({ max: 4 });
  const rows = await Promise.all(
    Array.from({ length: 200 }, (_, n) => pool.query("select $1::int as n, session_user as who, repeat('x', $1) as filler", [n])),
  );
  rows.forEach(({ rows: [row] }, n) => {
    assert.strictEqual(row.n, n);
    assert.strictEqual(row.who, "orders-api");
    assert.strictEqual(row.filler.length, n);
  });
  await assert.rejects(pool.query({ text: "select pg_sleep(60)", query_timeout: 200 }));
  await assert.rejects(pool.query("select 1/0"), { code: "22012" });
  await pool.end();

  const listener = new Client();
  await listener.connect();
  const heard = new Promise((resolve) => listener.on("notification", (n) => resolve(n.payload)));
  await listener.query("listen node");
  for (let n = 0; n < 20; n++) {
    const client = new Client();
    await client.connect();
    await client.query("select pg_notify('node', $1)", [String(n)]);
    await client.end();
  }
  assert.strictEqual(await heard, "0");
  await listener.end();
  console.log("done");
}

main();
