// Logs in with MSAL itself and node-postgres.
const { ConfidentialClientApplication } = require('@azure/msal-node')
const { query } = require('./query')

const authority = process.env.AZURE_AUTHORITY_HOST + process.env.AZURE_TENANT_ID
const client = new ConfidentialClientApplication({
  auth: {
    clientId: process.env.AZURE_CLIENT_ID,
    clientSecret: process.env.AZURE_CLIENT_SECRET,
    authority,
    knownAuthorities: [new URL(authority).host], // it does not ask login.microsoftonline.com about this one
  },
})

query(async () => {
  const result = await client.acquireTokenByClientCredential({
    scopes: ['https://ossrdbms-aad.database.windows.net/.default'],
  })
  return result.accessToken
})
