//go:build linux

package failover_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/test/internal/daemon"
	"github.com/aadpool/aadpool/test/internal/pgserver"
)

// wantedEnv has these tests run: they take minutes.
const wantedEnv = "AADPOOL_FAILOVER"

func wanted(t testing.TB) {
	t.Helper()
	if os.Getenv(wantedEnv) == "" {
		t.Skipf("set %s=1 for the failover tests, which take minutes; make matrix-failover does", wantedEnv)
	}
}

// app is the role, and the principal, that logs in.
const app = "orders-api"

// A cluster is a primary and its synchronous standby, and a principal of Entra whose token both take: it is the role's
// password, in PostgreSQL itself. Nothing of aadpooltest stands between the pools and the servers.
type cluster struct {
	primary, standby *node
	issuer           *daemon.Issuer
	root             string // the file of the certificates' root
	cred             azcore.TokenCredential
	token            string
	scope            string
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	return newClusterOn(t, func(testing.TB, *node) {})
}

// newClusterOn does to the primary what prepare does before it has data.
func newClusterOn(t testing.TB, prepare func(testing.TB, *node)) *cluster {
	t.Helper()
	wanted(t)
	c := &cluster{issuer: daemon.NewIssuer(t), scope: aadpooltest.DefaultAudience + "/.default"}
	c.root = filepath.Join(daemon.Dir(t), "root.crt")
	c.issuer.RootFile(t, c.root)
	bin := programs(t)
	c.primary, c.standby = &node{pgserver.New(t, bin, c.issuer)}, &node{pgserver.New(t, bin, c.issuer)}
	prepare(t, c.primary)
	c.primary.Initialise(t, hba)
	// Only with the standby there does a commit wait for it.
	c.primary.start(t)
	c.standby.copyFrom(t, c.primary)
	c.standby.start(t)
	c.primary.Exec(t, "alter system set synchronous_standby_names = '*'")
	c.primary.Reload(t)
	c.primary.Await(t, "select sync_state from pg_stat_replication", "sync")
	c.registerApp(t)
	version, err := c.primary.Query(t.Context(), "show server_version_num")
	require.NoError(t, err)
	number, err := strconv.Atoi(version) // such as 150018
	require.NoError(t, err)
	t.Attr("on", fmt.Sprintf("PostgreSQL %d.%d", number/10000, number%10000))
	return c
}

// registerApp makes the principal, and on the servers its role and a table of its own.
func (c *cluster) registerApp(t testing.TB) {
	t.Helper()
	entra, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(entra.Close)
	principal := entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: app})
	c.cred, err = azidentity.NewClientSecretCredential(entra.TenantID(), principal.ClientID, principal.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: entra.ClientOptions()})
	require.NoError(t, err)
	token, err := c.cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{c.scope}})
	require.NoError(t, err)
	c.token = token.Token
	c.primary.Exec(t, fmt.Sprintf(`create role "%s" login password '%s' valid until '%s'`, app, token.Token,
		token.ExpiresOn.UTC().Format(time.RFC3339)))
	c.primary.Exec(t, fmt.Sprintf(`create table writes (client text, n bigint); alter table writes owner to "%s"`, app))
}

// dsn names both nodes, the primary first.
func (c *cluster) dsn(name, parameters string) string {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.root}, "target_session_attrs": {"read-write"},
		"application_name": {name}, "pool_max_conns": {fmt.Sprint(writers)}}
	hosts := fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", c.primary.Port, c.standby.Port)
	return fmt.Sprintf("postgres://%s@%s/postgres?%s%s", app, hosts, query.Encode(), parameters)
}

// dsnOf names one node.
func (c *cluster) dsnOf(name string, n *node) string {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.root}, "application_name": {name}}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?%s", app, n.Port, query.Encode())
}

// pools are the pool under test and the one to compare it with: plain pgxpool, with the token asked for in
// BeforeConnect.
func (c *cluster) pools(t testing.TB, parameters string) map[string]*pgxpool.Pool {
	t.Helper()
	ours, err := aadpool.New(t.Context(), c.dsn("aadpool", parameters), c.cred, aadpool.WithScope(c.scope),
		aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(ours.Close)
	config, err := pgxpool.ParseConfig(c.dsn("pgxpool", parameters))
	require.NoError(t, err)
	config.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		token, err := c.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.scope}})
		config.Password = token.Token
		return err
	}
	plain, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	return map[string]*pgxpool.Pool{"aadpool": ours, "pgxpool": plain}
}

// rejoin makes the node that was the primary a standby of the one that is now.
func (c *cluster) rejoin(t testing.TB, old, primary *node) {
	t.Helper()
	old.copyFrom(t, primary)
	old.start(t)
	primary.Await(t, "select count(*) from pg_stat_replication", "1")
}
