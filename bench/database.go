package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	azidentitysdk "github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
)

const role = "bench"

// A database is a PostgreSQL server that is reached without anything between, over TLS, and takes one token: as the
// password of the role, in clear text inside TLS, as Azure does.
type database struct {
	postgres  *aadpooltest.Postgres
	authority *aadpooltest.Authority
	dsn       string
	cred      azcore.TokenCredential // azidentity's; it has the token in its own cache
	token     azcore.AccessToken
	version   string
}

func startDatabase(ctx context.Context) (*database, error) {
	if os.Getenv(aadpooltest.DatabaseEnv) != "" {
		return nil, errors.New(aadpooltest.DatabaseEnv +
			" is set; unset it: the benchmarks need a server of their own, with nothing between")
	}
	postgres, err := aadpooltest.StartPostgres(ctx)
	if err != nil {
		return nil, err
	}
	db := &database{postgres: postgres}
	if err := db.setUp(ctx); err != nil {
		return nil, errors.Join(err, db.stop())
	}
	return db, nil
}

func (db *database) setUp(ctx context.Context) (err error) {
	if db.authority, err = aadpooltest.NewAuthority(); err != nil {
		return err
	}
	db.authority.SetTokenLife(24 * time.Hour)
	if db.cred, err = credential(db.authority, register(db.authority), policy.RetryOptions{}); err != nil {
		return err
	}
	if db.token, err = db.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}}); err != nil {
		return err
	}
	if db.dsn, err = db.postgres.TLSDSN(role); err != nil {
		return err
	}
	if err := db.postgres.EnsureRole(ctx, role); err != nil {
		return err
	}
	verifier, err := cheapVerifier(db.token.Token)
	if err != nil {
		return err
	}
	if err := db.postgres.SetPassword(ctx, role, verifier, db.token.ExpiresOn); err != nil {
		return err
	}
	return db.administer(ctx, func(conn *pgx.Conn) error {
		// A superuser may use all of the server's 200 connections.
		if _, err := conn.Exec(ctx, "alter role "+role+" superuser"); err != nil {
			return err
		}
		return conn.QueryRow(ctx, "show server_version").Scan(&db.version)
	})
}

// cheapVerifier is what PostgreSQL keeps of a password, with one iteration of PBKDF2 in place of 4,096. Those take it
// two thirds of a connect, in which whatever else a connect costs would hardly be seen; Azure's server runs none.
// https://www.rfc-editor.org/rfc/rfc5802#section-3
func cheapVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("making a password's verifier: %w", err)
	}
	keyed := func(key []byte, text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", encode(salt), encode(stored[:]), encode(keyed(salted, "Server Key"))),
		nil
}

func (db *database) stop() error {
	if db.authority != nil {
		db.authority.Close()
	}
	return db.postgres.Stop()
}

func (db *database) administer(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, db.postgres.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// settle waits until the server has ended all sessions of the role: it does so some time after the client has.
func (db *database) settle(ctx context.Context) error {
	return db.administer(ctx, func(conn *pgx.Conn) error {
		for {
			var sessions int
			err := conn.QueryRow(ctx, "select count(*) from pg_stat_activity where usename = $1", role).Scan(&sessions)
			if err != nil || sessions == 0 {
				return err
			}
			if _, err := conn.Exec(ctx, "select pg_sleep(0.01)"); err != nil {
				return err
			}
		}
	})
}

// endSessions ends all sessions of the role.
func (db *database) endSessions(ctx context.Context) error {
	return db.administer(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = $1", role)
		return err
	})
}

// register makes the authority issue tokens for a service principal that has the role's name.
func register(authority *aadpooltest.Authority) aadpooltest.Principal {
	return authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: role})
}

// credential is azidentity's for the service principal.
func credential(authority *aadpooltest.Authority, app aadpooltest.Principal,
	retry policy.RetryOptions) (azcore.TokenCredential, error) {
	options := authority.ClientOptions()
	options.Retry = retry
	cred, err := azidentitysdk.NewClientSecretCredential(authority.TenantID(), app.ClientID, app.Secret,
		&azidentitysdk.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		return nil, fmt.Errorf("making a credential: %w", err)
	}
	return cred, nil
}

// uncached is a credential without a cache, as the Azure CLI's: each call takes a while and brings the token anew.
type uncached struct {
	token azcore.AccessToken
	takes time.Duration
	calls atomic.Int64
}

func (c *uncached) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.calls.Add(1)
	time.Sleep(c.takes)
	return azcore.AccessToken{Token: strings.Clone(c.token.Token), ExpiresOn: c.token.ExpiresOn}, nil
}
