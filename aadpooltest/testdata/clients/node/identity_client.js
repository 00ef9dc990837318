// Logs in with @azure/identity and node-postgres.
const { EnvironmentCredential } = require('@azure/identity')
const { query } = require('./query')

const credential = new EnvironmentCredential({ disableInstanceDiscovery: true })

query(async () => (await credential.getToken('https://ossrdbms-aad.database.windows.net/.default')).token)
