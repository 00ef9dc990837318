#!/bin/sh
# From nothing to the first login: a server with Entra authentication alone, an identity, its role, and a check.
#
#   RESOURCE_GROUP=orders SERVER=orders-1234 ./first-login.sh
#
# It has not been run by this project, which has no subscription; docs/azure-setup.md says what it was checked against.
# It costs money while the server is there: az group delete --name "$RESOURCE_GROUP" ends that, and all else in the group.
set -eu

: "${RESOURCE_GROUP:?the resource group to make or to use}"
: "${SERVER:?the name of the server: unique in all of Azure, lower case}"
LOCATION=${LOCATION:-westeurope}
IDENTITY=${IDENTITY:-id-orders}
DATABASE=${DATABASE:-orders}
MY_ADDRESS=${MY_ADDRESS-}

needs() {
	command -v "$1" >/dev/null || { echo "first-login: $1 is not on PATH" >&2; exit 127; }
}
for program in az aadpool sed cat dirname; do needs "$program"; done
[ -n "$MY_ADDRESS" ] || needs curl

# is_address takes one address of IPv4, and not 0.0.0.0, which lets all of Azure in.
is_address() {
	case $1 in '' | *[!0-9.]* | .* | *. | *..* | 0.*) return 1 ;; esac
	separators=$IFS IFS=.
	set -- $1
	IFS=$separators
	[ $# -eq 4 ] || return 1
	for number; do
		case $number in 0?* | ????*) return 1 ;; esac
		[ "$number" -le 255 ] || return 1
	done
}
# The firewall is opened for what this says.
[ -n "$MY_ADDRESS" ] || MY_ADDRESS=$(curl -fsS --proto '=https' --max-time 20 https://api.ipify.org)
is_address "$MY_ADDRESS" || {
	echo "first-login: set MY_ADDRESS to the address that this machine has on the internet: it is no single one of IPv4" >&2
	exit 2
}

HERE=$(cd "$(dirname "$0")" && pwd)

# Whoever is logged in to az becomes the server's administrator of Entra, and makes the role.
ADMIN_ID=$(az ad signed-in-user show --query id --output tsv)
ADMIN_NAME=$(az ad signed-in-user show --query userPrincipalName --output tsv)

az group create --name "$RESOURCE_GROUP" --location "$LOCATION" --output none
az deployment group create --resource-group "$RESOURCE_GROUP" --template-file "$HERE/server.bicep" --output none --parameters \
	serverName="$SERVER" databaseName="$DATABASE" identityName="$IDENTITY" clientAddress="$MY_ADDRESS" \
	administratorId="$ADMIN_ID" administratorName="$ADMIN_NAME" administratorType=User

HOST=$(az postgres flexible-server show --resource-group "$RESOURCE_GROUP" --name "$SERVER" --query fullyQualifiedDomainName --output tsv)

# In the user's name of a URL an @ is %40, a # (of a guest) %23.
ADMIN_USER=$(printf %s "$ADMIN_NAME" | sed 's/%/%25/g; s/@/%40/g; s/#/%23/g')

# The administrator logs in first, so that a fault shows before anything is made.
aadpool check --credential cli "postgres://$ADMIN_USER@$HOST/postgres"
aadpool role "$IDENTITY" --apply --grant readwrite --database "$DATABASE" --credential cli "postgres://$ADMIN_USER@$HOST/postgres"

# The identity itself can log in where it is assigned only: on a virtual machine, a container app, a pod.
CLIENT_ID=$(az identity show --resource-group "$RESOURCE_GROUP" --name "$IDENTITY" --query clientId --output tsv)
cat <<END

The server, the identity and its role are there. On a machine that has the identity:

  AZURE_CLIENT_ID=$CLIENT_ID aadpool check --credential managed-identity 'postgres://$IDENTITY@$HOST/$DATABASE'

To give it to a virtual machine:

  az vm identity assign --resource-group '$RESOURCE_GROUP' --name VM --identities '$IDENTITY'
END
