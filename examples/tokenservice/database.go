package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// database is how every command reaches the database.
type database struct {
	URL        string `name:"database-url" env:"DATABASE_URL" help:"Which database, and as which role: postgres://role@server.postgres.database.azure.com/tokenservice. There is no password in it."`
	Credential string `enum:"default,client-secret" default:"default" env:"TOKENSERVICE_CREDENTIAL" help:"Whose access tokens log in to it: ${enum}."`
}

// connectTimeout keeps a server that does not answer from holding the pool's connections longer than requests wait.
const connectTimeout = 5 * time.Second

// connect makes a pool. There is one, but for tests: logIn.
type connect func(ctx context.Context, d database, log *slog.Logger) (*pgxpool.Pool, error)

func (d database) open(ctx context.Context, connect connect, log *slog.Logger) (*pgxpool.Pool, error) {
	if d.URL == "" {
		return nil, errors.New("DATABASE_URL is missing: " +
			"it looks like postgres://role@server.postgres.database.azure.com/tokenservice")
	}
	return connect(ctx, d, log)
}

// logIn returns a pool whose connections log in with access tokens.
func logIn(ctx context.Context, d database, log *slog.Logger) (*pgxpool.Pool, error) {
	cred, err := credential(d.Credential, os.Getenv)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(d.URL)
	if err != nil {
		return aadpool.New(ctx, d.URL, cred) // for its error, which repeats nothing of the URL
	}
	if config.ConnConfig.ConnectTimeout > connectTimeout {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	return aadpool.NewWithConfig(ctx, config, cred, aadpool.WithLogger(log))
}

// secretVariables are what a service principal with a secret needs: those of azidentity.
var secretVariables = []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"}

// credential is DefaultAzureCredential, unless a client secret is asked for or given: then whatever else it needs must
// be there too. (DefaultAzureCredential would go on without a word to the next credential.)
func credential(kind string, getenv func(string) string) (azcore.TokenCredential, error) {
	if kind != "client-secret" && getenv("AZURE_CLIENT_SECRET") == "" {
		return azidentity.NewDefaultAzureCredential(nil)
	}
	var missing []string
	for _, name := range secretVariables {
		if getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("to log in to the database as a service principal with a secret, set %s too",
			strings.Join(missing, " and "))
	}
	return azidentity.NewClientSecretCredential(getenv("AZURE_TENANT_ID"), getenv("AZURE_CLIENT_ID"),
		getenv("AZURE_CLIENT_SECRET"), nil)
}
