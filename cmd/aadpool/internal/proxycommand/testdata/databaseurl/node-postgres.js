const { Client } = require("pg");

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  console.log((await client.query("select session_user || ' ' || current_database() as who")).rows[0].who);
  await client.end();
}
main();
