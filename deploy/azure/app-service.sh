#!/bin/sh
# aadpool proxy as a sidecar of a web app on Linux with containers (az webapp create --sitecontainers-app): containers of one
# app share 127.0.0.1. It has not run on Azure yet. What a container's variable has as its value in app-service.json is the
# name of a setting of the app, which are these.
#
#	APP=orders-api RESOURCE_GROUP=group SERVER=orders ROLE=orders-api DATABASE=orders deploy/azure/app-service.sh
set -eu
: "${APP:?}" "${RESOURCE_GROUP:?}" "${SERVER:?}" "${ROLE:?}" "${DATABASE:?}"
HERE=$(dirname "$0")

az webapp identity assign --name "$APP" --resource-group "$RESOURCE_GROUP" --output none
az webapp config appsettings set --name "$APP" --resource-group "$RESOURCE_GROUP" --output none --settings \
	ORDERS_HOST="$SERVER.postgres.database.azure.com" ORDERS_ROLE="$ROLE" ORDERS_DATABASE="$DATABASE" \
	AADPOOL_CREDENTIAL=managed-identity AADPOOL_LISTEN=127.0.0.1:5432 \
	DATABASE_URL="postgres://$ROLE@127.0.0.1:5432/$DATABASE?sslmode=disable"
az webapp sitecontainers create --name "$APP" --resource-group "$RESOURCE_GROUP" --sitecontainers-spec-file "$HERE/app-service.json"
