package service_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// What the demo has as steady load, on two replicas while the database tokens of both are replaced three times. The
// server takes each token for an hour: what a login came with is judged by what the replica has been told.
func TestDatabaseTokenRotationInTheMiddleOfRequests(t *testing.T) {
	t.Parallel()
	e := setupWith(t, func(c *pgxpool.Config) { c.MaxConns = 4 })
	life := azuretest.NewShortLife(4 * time.Second)
	e.TokenPolicies = []policy.Policy{life}
	var replicas []*localservice.Replica
	var watches []*loginWatch
	for range 2 {
		watch := &loginWatch{life: life, used: map[string]bool{}}
		watches = append(watches, watch)
		replicas = append(replicas, e.start(watch.see))
	}
	deadline, cancel := context.WithTimeout(context.Background(), 2*eventually)
	defer cancel()
	rotated := func() bool { // the first, and three more
		return !slices.ContainsFunc(watches, func(w *loginWatch) bool { return w.tokens() < 4 })
	}
	serve := func(r *http.Request) (a answer, ok bool) {
		a, err := e.send(r)
		return a, assert.NoError(t, err) && assert.Equal(t, http.StatusOK, a.status, "%s", a.body)
	}
	var working sync.WaitGroup
	for _, name := range []string{"one", "two", "three", "four"} {
		principal := e.register(name, "orders:read")
		working.Go(func() {
			current, ok := serve(tokenRequest(replicas[0], principal, "grant_type", "client_credentials"))
			for n := 1; ok && !rotated() && deadline.Err() == nil; n++ {
				replica := replicas[n%2]
				me := newRequest(http.MethodGet, replica.URL+"/v1/me", "", "")
				me.Header.Set("Authorization", "Bearer "+current.AccessToken)
				if _, ok = serve(me); !ok {
					return
				}
				current, ok = serve(tokenRequest(replica, principal, "grant_type", "refresh_token", "refresh_token",
					current.RefreshToken))
			}
		})
	}
	working.Wait()
	assert.True(t, rotated(), "three rotations on each replica")
	for i, w := range watches {
		assert.Zero(t, w.late.Load(), "logins whose token had ended before they began")
		assert.Zero(t, replicas[i].Hook.Stats().FailedFetches)
	}
}

// A loginWatch sees the tokens that a replica logs in with.
type loginWatch struct {
	life *azuretest.ShortLife
	late atomic.Int64 // logins whose token had ended before they began
	mu   sync.Mutex
	used map[string]bool // guarded by mu
}

func (w *loginWatch) see(config *pgxpool.Config) {
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		began := time.Now()
		config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			return azuretest.WatchPassword(conn, func(_ net.Conn, token string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.used[token] = true
				if began.After(w.life.EndOf(token)) {
					w.late.Add(1)
				}
			}), nil
		}
		return nil
	}
}

func (w *loginWatch) tokens() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.used)
}

func TestDatabaseAwayAndBack(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]aadpooltest.Fault{
		"it cuts connections":   aadpooltest.DropAt(aadpooltest.PhaseAccept),
		"it does not answer":    aadpooltest.StallAt(aadpooltest.PhaseStartup),
		"it has no room":        aadpooltest.RefuseLogins("53300", "too many connections for role"),
		"it is being shut down": aadpooltest.RefuseLogins("57P03", "the database system is shutting down"),
		"it refuses the service": aadpooltest.RefuseLogins("28000",
			"The access token has expired. Acquire a new token and try again."),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			boss := e.register("boss", "principals:admin")
			before := e.logIn(boss)
			e.Config.RequestTimeout = time.Second
			impatient := e.start(nil)

			e.azure.Server.SetFault(fault)
			e.azure.Server.CloseConnections()
			requests := map[string]*http.Request{
				"login": tokenRequest(impatient, boss, "grant_type", "client_credentials"),
				"refresh": tokenRequest(impatient, boss, "grant_type", "refresh_token", "refresh_token",
					before.RefreshToken),
				"administration": newRequest(http.MethodGet, impatient.URL+"/v1/principals", "", ""),
				"readiness":      newRequest(http.MethodGet, impatient.URL+"/readyz", "", ""),
			}
			requests["administration"].Header.Set("Authorization", "Bearer "+before.AccessToken)
			waiting, giveUp := context.WithTimeout(context.Background(), eventually)
			defer giveUp()
			for name, request := range requests {
				a := e.do(request.WithContext(waiting)) // each is answered, and none hangs
				assert.Equal(t, http.StatusServiceUnavailable, a.status, "%s: %s", name, a.body)
				assert.NotEmpty(t, a.header.Get("Retry-After"), name)
				if name != "readiness" {
					assert.Equal(t, "temporarily_unavailable", a.Error, name)
				}
			}
			assert.Equal(t, 200, e.call(impatient, before.AccessToken, "GET", "/v1/me", "").status, "access tokens go on")
			assert.Equal(t, 204, e.do(newRequest("GET", impatient.URL+"/healthz", "", "")).status, "the process is well")
			assert.Error(t, impatient.Service.Maintain(context.Background()))

			e.azure.Server.SetFault(aadpooltest.Fault{})
			for _, replica := range []*localservice.Replica{impatient, e.replica} {
				require.Eventually(t, func() bool {
					a, err := e.send(newRequest(http.MethodGet, replica.URL+"/readyz", "", ""))
					return err == nil && a.status == 204
				}, eventually, 50*time.Millisecond, "it comes back by itself")
			}
			assert.Equal(t, 200, e.refresh(e.replica, boss, before.RefreshToken).status,
				"nothing is lost: the token was not used up")
			assert.Equal(t, 200, e.do(tokenRequest(e.replica, boss, "grant_type", "client_credentials")).status)
		})
	}
}

// Connections that are cut in the middle of things, as by a failover: a request gets its answer or 503, and never
// another.
func TestConnectionsCutUnderLoad(t *testing.T) {
	t.Parallel()
	e := setup(t)
	var working sync.WaitGroup
	var answered, refused atomic.Int64
	stop := make(chan struct{})
	for _, name := range []string{"one", "two", "three"} {
		principal := e.register(name)
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := e.send(tokenRequest(e.replica, principal, "grant_type", "client_credentials"))
				if !assert.NoError(t, err) || !assert.Contains(t, []int{200, 503}, a.status, "%s", a.body) {
					return
				}
				if a.status == 503 {
					refused.Add(1)
					assert.NotEmpty(t, a.header.Get("Retry-After"))
				} else {
					answered.Add(1)
				}
			}
		})
	}
	for cuts, done := 0, int64(0); cuts < 5; cuts++ {
		require.Eventually(t, func() bool { return answered.Load() >= done+10 }, eventually, time.Millisecond)
		done = answered.Load()
		e.azure.Server.CloseConnections()
	}
	require.Eventually(t, func() bool { return answered.Load() > 60 }, eventually, time.Millisecond)
	close(stop)
	working.Wait()
	t.Logf("%d answered, %d refused with 503", answered.Load(), refused.Load())

	var families int64
	require.NoError(t, e.replica.Pool.QueryRow(context.Background(),
		"select count(*) from refresh_families").Scan(&families))
	assert.GreaterOrEqual(t, families, answered.Load(), "every login that was answered is there")
}

func TestAuditLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	e.logIn(e.register("orders"))
	for _, statement := range []string{
		"update audit_log set detail = 'nothing'",
		"delete from audit_log",
		"truncate audit_log",
		"truncate principals cascade, audit_log",
	} {
		_, err := e.replica.Pool.Exec(ctx, statement)
		require.Error(t, err, statement)
	}
	require.Len(t, e.events(), 3)

	t.Run("a role that owns nothing", func(t *testing.T) {
		// As a database of PostgreSQL 14 has it, and one of any version where somebody was generous.
		for _, sql := range []string{"grant create on schema public to public", "grant all on audit_log to public"} {
			_, err := e.replica.Pool.Exec(ctx, sql)
			require.NoError(t, err)
		}
		pool := e.runtimePool(t)
		config := e.Config
		config.OAuth.PublicURL = "https://localhost"
		_, err := newService(ctx, pool, config)
		require.NoError(t, err, "it can do what the service does")
		require.NoError(t, store.New(pool).Disable(ctx, admin, e.register("billing").ClientID))
		for name, statement := range map[string]string{
			"deletes":              "delete from audit_log",
			"takes the trigger":    "drop trigger audit_log_is_append_only on audit_log",
			"disables the trigger": "alter table audit_log disable trigger all",
			"takes the table":      "drop table audit_log",
			"is a replica":         "set session_replication_role = replica",
			"backdates":            "insert into audit_log (at, event, actor) values ('2020-01-01', 'login.succeeded', 'x')",
			"chooses ids": "insert into audit_log (id, event, actor) overriding system value " +
				"values (9223372036854775807, 'login.succeeded', 'x')",
			"ends the ids":  "select setval('audit_log_id_seq', 9223372036854775807)",
			"hides the log": "create temporary table audit_log (like public.audit_log)",
			"makes another": "create table public.audit_log_2 ()",
		} {
			_, err := pool.Exec(ctx, statement)
			var refused *pgconn.PgError
			if assert.ErrorAs(t, err, &refused, name) {
				assert.Equal(t, "42501", refused.Code, name)
			}
		}
	})
}

// runtimePool is a pool of a role that has been granted what the service needs.
func (e *environment) runtimePool(t *testing.T) *pgxpool.Pool {
	ctx := context.Background()
	service := e.azure.Authority.Register(aadpooltest.Principal{Name: "tokenservice-runtime"})
	require.NoError(t, postgres.EnsureRole(ctx, service.Name))
	require.NoError(t, store.GrantTo(ctx, e.replica.Pool, service.Name))
	dsn, err := e.DSN(service.Name)
	require.NoError(t, err)
	azure := *e.azure
	azure.App = service
	cred, err := azure.Credential()
	require.NoError(t, err)
	pool, err := aadpool.New(ctx, dsn, cred)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// What a database's owner has not allowed to be taken away is said, not passed over.
func TestGrantToSaysWhatStaysOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	superuser, err := pgx.Connect(ctx, postgres.DSN())
	require.NoError(t, err)
	defer superuser.Close(ctx)
	var database string
	require.NoError(t, e.replica.Pool.QueryRow(ctx, "select current_database()").Scan(&database))
	_, err = superuser.Exec(ctx, "alter database "+pgx.Identifier{database}.Sanitize()+" owner to postgres")
	require.NoError(t, err)
	require.NoError(t, postgres.EnsureRole(ctx, "tokenservice-runtime"))
	err = store.GrantTo(ctx, e.replica.Pool, "tokenservice-runtime")
	require.ErrorContains(t, err, "revoke temporary on database")
}

// A table of the same name in the session's own schema takes nothing from those of the service, nor adds to them.
func TestTemporaryTablesHideNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setupWith(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			for _, table := range tables {
				if _, err := conn.Exec(ctx, "create temporary table "+table+" (like public."+table+" including all)"); err != nil {
					return err
				}
			}
			return nil
		}
	})
	boss, orders := e.register("boss", "principals:admin"), e.register("orders", "orders:read")
	tokens := e.logIn(orders)
	tokens = e.refresh(e.replica, orders, tokens.RefreshToken)
	require.Equal(t, 200, tokens.status, "%s", tokens.body)
	admin := e.logIn(boss).AccessToken
	path := "/v1/principals/" + orders.ClientID.String()
	assert.Equal(t, 204, e.call(e.replica, admin, "PUT", path+"/permissions/orders:write", "").status)
	assert.Equal(t, 204, e.call(e.replica, admin, "DELETE", path+"/permissions/orders:write", "").status)
	assert.Equal(t, 201, e.call(e.replica, admin, "POST", path+"/secrets", "").status)
	assert.Equal(t, 401, e.do(tokenRequest(e.replica, localservice.Registration{ClientID: orders.ClientID},
		"grant_type", "client_credentials")).status)
	assert.Equal(t, 204, e.call(e.replica, admin, "POST", path+"/disable", "").status)
	require.NoError(t, e.replica.Service.Maintain(ctx))
	assert.Equal(t, 204, e.call(e.replica, admin, "DELETE", path, "").status)
	for _, conn := range e.replica.Pool.AcquireAllIdle(ctx) {
		for _, table := range tables {
			var hidden int
			require.NoError(t, conn.QueryRow(ctx, "select count(*) from pg_temp."+table).Scan(&hidden))
			assert.Zero(t, hidden, table)
		}
		conn.Release()
	}
}

// tables are those of the service.
var tables = []string{"principals", "principal_permissions", "client_secrets", "refresh_families", "refresh_tokens",
	"signing_keys", "audit_log", "failed_logins"}

func TestSecretsAreHashedAtRest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	orders := e.register("orders")
	tokens := e.logIn(orders)
	e.refresh(e.replica, orders, tokens.RefreshToken)
	// What only its holder knows: any of it may have a "_".
	_, random, _ := strings.Cut(orders.Secret.Reveal(), orders.Secret.ID+"_")
	signature := tokens.AccessToken[strings.LastIndexByte(tokens.AccessToken, '.')+1:]
	for _, table := range tables {
		var all string
		require.NoError(t, e.replica.Pool.QueryRow(ctx,
			"select coalesce(string_agg(t::text, ' '), '') from "+table+" t").Scan(&all))
		for _, value := range []string{random, tokens.RefreshToken[len("tsr_"):], signature} {
			assert.NotContains(t, all, value, table)
		}
	}
}
