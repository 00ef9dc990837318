// A test with Node's own runner and testcontainers: npm ci --ignore-scripts && npm test
const assert = require('node:assert')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const test = require('node:test')
const { GenericContainer, Wait } = require('testcontainers')
const { environment, logIn } = require('./log_in')

const image = process.env.STANDINS_IMAGE ?? 'ghcr.io/aadpool/aadpool-standins'

test('the service logs in', async () => {
  const container = await new GenericContainer(image)
    .withEnvironment({ AADPOOLTEST_HOST: 'localhost' })
    .withExposedPorts(8080, 8443, 5432)
    .withWaitStrategy(Wait.forHttp('/healthz', 8080))
    .start()
  try {
    /** @param {number} port */
    const mapped = (port) => String(container.getMappedPort(port))
    const ports = { control: mapped(8080), entra: mapped(8443), postgres: mapped(5432) }
    const env = await environment(ports, fs.mkdtempSync(path.join(os.tmpdir(), 'standins-')))
    assert.equal(await logIn(env), 'orders-api')
  } finally {
    await container.stop()
  }
})
