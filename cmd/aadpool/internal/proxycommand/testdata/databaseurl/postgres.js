const postgres = require("postgres");

async function main() {
  const sql = postgres(process.env.DATABASE_URL);
  console.log((await sql.unsafe("select session_user || ' ' || current_database() as who"))[0].who);
  await sql.end();
}
main();
