// Package localazure starts what a service that logs in to Azure Database for PostgreSQL needs, on this machine: the
// stand-ins of aadpooltest, on a PostgreSQL server of their own. It is for the programs in examples.
package localazure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/aadpooltest"
)

// Services are a database server, the authority whose tokens it takes, and a service principal that may log in.
type Services struct {
	Authority *aadpooltest.Authority
	Postgres  *aadpooltest.Postgres
	Server    *aadpooltest.Server
	App       aadpooltest.Principal

	stopPostgres func() error
}

// Start starts the services, with a service principal of that name, on a PostgreSQL of their own. Tokens live for
// tokenLife, in whole seconds, and take fetchLatency to get. ctx bounds the start only. The caller ends them with
// [Services.Stop].
func Start(ctx context.Context, app string, tokenLife, fetchLatency time.Duration) (*Services, error) {
	postgres, err := aadpooltest.StartPostgres(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s, err := On(postgres, app, tokenLife, fetchLatency)
	if err != nil {
		return nil, errors.Join(err, postgres.Stop())
	}
	s.stopPostgres = postgres.Stop
	return s, nil
}

// On starts the services on a PostgreSQL that others may use too, and that stays the caller's to stop.
func On(postgres *aadpooltest.Postgres, app string, tokenLife, fetchLatency time.Duration) (*Services, error) {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in for Entra ID: %w", err)
	}
	authority.SetTokenLife(tokenLife)
	authority.SetLatency(fetchLatency)
	server, err := aadpooltest.NewServer(authority, postgres)
	if err != nil {
		authority.Close()
		return nil, fmt.Errorf("starting the stand-in for Azure Database for PostgreSQL: %w", err)
	}
	principal := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: app})
	return &Services{authority, postgres, server, principal, func() error { return nil }}, nil
}

// Stop ends the services and returns when no process or file is left of them.
func (s *Services) Stop() error {
	s.Server.Close()
	s.Authority.Close()
	return s.stopPostgres()
}

// Credential returns azidentity's credential for the service principal, as a service would make it.
func (s *Services) Credential() (azcore.TokenCredential, error) {
	return azidentity.NewClientSecretCredential(s.Authority.TenantID(), s.App.ClientID, s.App.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: s.Authority.ClientOptions()})
}

// DSN is what the service principal connects to.
func (s *Services) DSN() string { return s.Server.DSN(s.App.Name) }
