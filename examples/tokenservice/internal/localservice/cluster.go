// Package localservice runs replicas of the token service on this machine, on the stand-ins of localazure, for its
// tests and its demo. The service is the real one; only the credential's way to Entra differs.
package localservice

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// connectTimeout is that of the command line.
const connectTimeout = 5 * time.Second

// A Cluster is a database for the token service, and the replicas on it.
type Cluster struct {
	Config         service.Config // of the replicas that are started next
	ConnectTimeout time.Duration  // of their pools
	CertificatePEM []byte         // what clients have to trust

	// TokenPolicies are for the requests for database tokens of the replicas that are started next.
	TokenPolicies []policy.Policy

	azure       *localazure.Services
	database    string
	certificate tls.Certificate
	log         *slog.Logger
}

// New makes a database that azure's application owns, and the service's schema in it. What config leaves open (its
// name, its keys) is filled in.
func New(ctx context.Context, azure *localazure.Services, config service.Config, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{Config: config, ConnectTimeout: connectTimeout, azure: azure, log: log}
	var err error
	if c.certificate, c.CertificatePEM, err = service.SelfSigned("127.0.0.1"); err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	rand.Read(key)
	if c.Config.Sealer, err = keyring.ParseSealer(base64.StdEncoding.EncodeToString(key)); err != nil {
		return nil, err
	}
	if err := c.createDatabase(ctx); err != nil {
		return nil, fmt.Errorf("creating the database: %w", err)
	}
	return c, nil
}

// templates are databases with the schema in them. To copy one takes a fraction of what it takes to migrate.
var templates struct {
	mu     sync.Mutex // held while one is made, which others then use
	byRole map[template]string
}

type template struct {
	postgres *aadpooltest.Postgres
	role     string
}

// createDatabase makes a database of the application's, which has the service's schema.
func (c *Cluster) createDatabase(ctx context.Context) error {
	templates.mu.Lock()
	defer templates.mu.Unlock()
	of := template{c.azure.Postgres, c.azure.App.Name}
	if _, ok := templates.byRole[of]; !ok {
		if err := c.azure.Postgres.EnsureRole(ctx, of.role); err != nil {
			return err
		}
		if err := c.copyDatabase(ctx, "template1"); err != nil {
			return err
		}
		if err := c.migrate(ctx); err != nil {
			return err
		}
		if templates.byRole == nil {
			templates.byRole = map[template]string{}
		}
		templates.byRole[of] = c.database
	}
	return c.copyDatabase(ctx, templates.byRole[of])
}

// copyDatabase makes c's database a new copy of another, which nobody may be connected to.
func (c *Cluster) copyDatabase(ctx context.Context, original string) error {
	conn, err := pgx.Connect(ctx, c.azure.Postgres.DSN())
	if err != nil {
		return err
	}
	c.database = "tokenservice_" + uuid.NewString()
	// A pool that has been closed does not wait until its sessions have gone; this does.
	_, err = conn.Exec(ctx, "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = $1", original)
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("create database %s owner %s template %s", pgx.Identifier{c.database}.Sanitize(),
		pgx.Identifier{c.azure.App.Name}.Sanitize(), pgx.Identifier{original}.Sanitize()))
	return errors.Join(err, conn.Close(ctx))
}

func (c *Cluster) migrate(ctx context.Context) error {
	pool, _, err := c.OpenPool(ctx, func(config *pgxpool.Config) { config.ConnConfig.ConnectTimeout = 0 })
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = store.Migrate(ctx, pool)
	return err
}

// DSN is what a database role connects to the service's database with.
func (c *Cluster) DSN(role string) (string, error) {
	dsn, err := url.Parse(c.azure.Server.DSN(role))
	if err != nil {
		return "", err
	}
	dsn.Path = "/" + c.database
	return dsn.String(), nil
}

// credential is azure's own without its retries: they would go on for seconds after the stand-in has ended.
func (c *Cluster) credential() (azcore.TokenCredential, error) {
	options := c.azure.Authority.ClientOptions()
	options.Retry.MaxRetries = -1
	options.PerRetryPolicies = append(options.PerRetryPolicies, c.TokenPolicies...)
	return azidentity.NewClientSecretCredential(c.azure.Authority.TenantID(), c.azure.App.ClientID, c.azure.App.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
}

// OpenPool returns a pool as a replica has it, with its hook. configure, if there is one, changes its config first.
func (c *Cluster) OpenPool(ctx context.Context, configure func(*pgxpool.Config)) (*pgxpool.Pool, *aadpool.Hook, error) {
	cred, err := c.credential()
	if err != nil {
		return nil, nil, err
	}
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(c.log))
	if err != nil {
		return nil, nil, err
	}
	dsn, err := c.DSN(c.azure.App.Name)
	if err != nil {
		return nil, nil, err
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, nil, err
	}
	config.ConnConfig.ConnectTimeout = c.ConnectTimeout
	if configure != nil {
		configure(config)
	}
	pool, err := hook.NewPoolWithConfig(ctx, config)
	return pool, hook, err
}

// Client returns a client that trusts the replicas. Its idle connections are the caller's to close.
func (c *Cluster) Client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CertificatePEM)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSHandshakeTimeout = 0 // a replica ends handshakes that take long
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport}
}

// A Replica is one that runs.
type Replica struct {
	URL     string
	Service *service.Service
	Pool    *pgxpool.Pool
	Hook    *aadpool.Hook

	stop   context.CancelFunc
	served chan error
}

// StartReplica starts a replica on a free port. The first one's URL becomes the service's public one: there is nothing
// in front of them that has another.
func (c *Cluster) StartReplica(ctx context.Context, configure func(*pgxpool.Config)) (*Replica, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Replica{URL: "https://" + listener.Addr().String(), served: make(chan error, 1)}
	if c.Config.OAuth.PublicURL == "" {
		c.Config.OAuth.PublicURL = r.URL
	}
	if r.Pool, r.Hook, err = c.OpenPool(ctx, configure); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if r.Service, err = service.New(ctx, r.Pool, c.Config, c.log); err != nil {
		r.Pool.Close()
		return nil, errors.Join(err, listener.Close())
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	go func() { r.served <- r.Service.Serve(serving, listener, c.certificate) }()
	return r, nil
}

// Stop ends the replica in order, and returns what came of it. It is to be called once.
func (r *Replica) Stop() error {
	r.stop()
	err := <-r.served
	r.Pool.Close()
	return err
}

// A Registration is a principal and its secret.
type Registration struct {
	Name     string
	ClientID uuid.UUID
	Secret   secret.ClientSecret
}

// Register registers a principal, as the command line does.
func (c *Cluster) Register(ctx context.Context, pool *pgxpool.Pool, name string, permissions ...string) (Registration,
	error) {
	s := secret.NewClientSecret()
	hash, err := secret.NewHasher(c.Config.Argon2id, 1).Hash(ctx, s)
	if err != nil {
		return Registration{}, err
	}
	id, err := store.New(pool).CreatePrincipal(ctx, store.Actor{Name: "registration"}, name, permissions, s.ID, hash)
	return Registration{name, id, s}, err
}
