// The stand-ins' environment, and a login as a service does it: @azure/identity and node-postgres.
const fs = require('node:fs')
const path = require('node:path')
const { ClientSecretCredential } = require('@azure/identity')
const { Client } = require('pg')

/**
 * Tells the stand-ins by which ports they are reached. Returns what they have for a service.
 * @param {Record<string, string>} ports
 * @param {string} directory
 * @returns {Promise<Record<string, string>>}
 */
async function environment(ports, directory) {
  const control = `http://localhost:${ports.control}`
  /** @param {string} method @param {string} path */
  const ask = async (method, path) => {
    const answer = await fetch(control + path, { method })
    if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`)
    return answer
  }
  await ask('PUT', '/ports?' + new URLSearchParams(ports))
  const ca = path.join(directory, 'ca.pem')
  fs.writeFileSync(ca, await (await ask('GET', '/ca.pem')).text())
  return /** @type {Promise<Record<string, string>>} */ ((await ask('GET', '/env?' + new URLSearchParams({ ca }))).json())
}

/**
 * Logs in with a token as the password. Returns who it is.
 * @param {Record<string, string>} env
 * @returns {Promise<string>}
 */
async function logIn(env) {
  const ca = fs.readFileSync(env.SSL_CERT_FILE, 'utf8')
  const credential = new ClientSecretCredential(env.AZURE_TENANT_ID, env.AZURE_CLIENT_ID, env.AZURE_CLIENT_SECRET, {
    authorityHost: env.AZURE_AUTHORITY_HOST,
    disableInstanceDiscovery: true, // the stand-in is no host that Microsoft knows
    tlsOptions: { ca },
  })
  const client = new Client({
    host: env.PGHOST,
    port: Number(env.PGPORT),
    user: env.PGUSER,
    database: env.PGDATABASE,
    ssl: { ca },
    password: async () => (await credential.getToken('https://ossrdbms-aad.database.windows.net/.default')).token,
  })
  await client.connect()
  const result = await client.query('select session_user')
  await client.end()
  return result.rows[0].session_user
}

module.exports = { environment, logIn }

if (require.main === module) {
  const [control, entra, postgres, directory] = process.argv.slice(2)
  environment({ control, entra, postgres }, directory).then(logIn).then((user) => console.log(user))
}
