// A server that takes Entra's tokens and no passwords, a database, one administrator, one identity, and one address that
// is let in. See docs/azure-setup.md.

param location string = resourceGroup().location

@description('Unique in all of Azure; lower case letters, digits and hyphens.')
param serverName string
param databaseName string
param identityName string

@description('The one address that the firewall lets in.')
param clientAddress string

@description('The object id of the administrator of Entra.')
param administratorId string

@description('The name: a user\'s UPN, a group\'s or a service principal\'s display name.')
param administratorName string

@allowed(['User', 'Group', 'ServicePrincipal'])
param administratorType string = 'User'

// The defaults are the cheapest. A standby and PgBouncer need another tier than Burstable.
param skuName string = 'Standard_B1ms'

@allowed(['Burstable', 'GeneralPurpose', 'MemoryOptimized'])
param skuTier string = 'Burstable'

@allowed(['Disabled', 'SameZone', 'ZoneRedundant'])
param highAvailability string = 'Disabled'

param pgbouncer bool = false

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: identityName
  location: location
}

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: serverName
  location: location
  sku: {
    name: skuName
    tier: skuTier
  }
  properties: {
    version: '16'
    storage: {
      storageSizeGB: 32
    }
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: 'Disabled'
      tenantId: subscription().tenantId
    }
    highAvailability: {
      mode: highAvailability
    }
    network: {
      publicNetworkAccess: 'Enabled'
    }
  }

  resource database 'databases' = {
    name: databaseName
  }

  resource firewall 'firewallRules' = {
    name: 'client'
    properties: {
      startIpAddress: clientAddress
      endIpAddress: clientAddress
    }
  }
}

// The server takes one change at a time: the administrator comes when the rest is there.
resource administrator 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2024-08-01' = {
  parent: server
  name: administratorId
  properties: {
    principalName: administratorName
    principalType: administratorType
    tenantId: subscription().tenantId
  }
  dependsOn: [
    server::database
    server::firewall
  ]
}

resource pooler 'Microsoft.DBforPostgreSQL/flexibleServers/configurations@2024-08-01' = if (pgbouncer) {
  parent: server
  name: 'pgbouncer.enabled'
  properties: {
    value: 'true'
    source: 'user-override'
  }
  dependsOn: [
    administrator
  ]
}

output host string = server.properties.fullyQualifiedDomainName
output clientId string = identity.properties.clientId
