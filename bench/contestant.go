package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/hashicorp/go-pgmultiauth"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

const scope = aadpooltest.DefaultAudience + "/.default"

// A contestant is a way to have a pool log in with access tokens.
type contestant string

const (
	floor       contestant = "plain pgxpool" // with a token that somebody got for it and that nobody renews
	control     contestant = "control"       // the floor once more: its ratio to the floor is noise
	azidentity  contestant = "azidentity"    // called in BeforeConnect, as most services do
	pgMultiAuth contestant = "go-pgmultiauth"
	ours        contestant = "aadpool"
)

var (
	all   = []contestant{floor, control, azidentity, pgMultiAuth, ours}
	peers = []contestant{azidentity, pgMultiAuth}
	users = []contestant{azidentity, pgMultiAuth, ours} // those that use a credential
)

var silent = aadpool.WithLogger(slog.New(slog.DiscardHandler))

// A hook is a BeforeConnect.
type hook = func(context.Context, *pgx.ConnConfig) error

// newPool makes the contestant's pool, as its documentation says. token is for the floor, cred for the others.
func (c contestant) newPool(ctx context.Context, dsn, token string, cred azcore.TokenCredential) (*pgxpool.Pool,
	error) {
	switch c {
	case pgMultiAuth:
		return pgmultiauth.NewDBPool(ctx, pgmultiauth.NewConfig(dsn, pgmultiauth.WithAzureAuth(cred)))
	case ours:
		return aadpool.New(ctx, dsn, cred, silent)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Password = token
	if c == azidentity {
		config.BeforeConnect = ask(cred)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// newHook makes what the contestant's pool calls before each connect.
func (c contestant) newHook(ctx context.Context, dsn, token string, cred azcore.TokenCredential) (hook, error) {
	switch c {
	case azidentity:
		return ask(cred), nil
	case pgMultiAuth:
		return pgmultiauth.BeforeConnectFn(ctx, pgmultiauth.NewConfig(dsn, pgmultiauth.WithAzureAuth(cred)))
	case ours:
		h, err := aadpool.NewHook(cred, silent)
		if err != nil {
			return nil, err
		}
		return h.BeforeConnect, nil
	}
	return func(_ context.Context, config *pgx.ConnConfig) error {
		config.Password = token
		return nil
	}, nil
}

func ask(cred azcore.TokenCredential) hook {
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
		if err != nil {
			return fmt.Errorf("getting an access token: %w", err)
		}
		config.Password = token.Token
		return nil
	}
}
