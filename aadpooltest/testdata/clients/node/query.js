// What the two programs have in common: node-postgres asks for a password at each connect.
const fs = require('node:fs')
const { Pool } = require('pg')

// query logs in with a token and prints who it is. node-postgres knows no sslrootcert: it takes the certificate itself.
exports.query = async function (getToken) {
  const pool = new Pool({
    password: getToken, // host, port, user and database come from the environment
    ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT) },
  })
  const result = await pool.query('select session_user, ssl from pg_stat_ssl where pid = pg_backend_pid()')
  if (!result.rows[0].ssl) throw new Error('the connection is not encrypted')
  console.log(result.rows[0].session_user)
  await pool.end()
}
