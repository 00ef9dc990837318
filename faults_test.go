package aadpool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What goes wrong around a pool, with real servers and unmodified credentials: what happens, what the user sees, and that
// nothing is lost. The tables are in
//
//	faults_entra_test.go     Entra slow, hanging, refusing, throttling, broken, unreachable
//	faults_token_test.go     tokens expired, not yet valid, for another audience, too long, short-lived, long-lived
//	faults_azurecli_test.go  az missing, logged out, slow, switched to another user
//	faults_server_test.go    PostgreSQL crashing, failing over, full, silent, hanging up in the middle of a login
//	faults_pool_test.go      acquires cancelled and pools closed in the middle of anything
//	clock_test.go            the clock set, the machine asleep
//	soak_test.go             all of it at random, under load
//
// and these tests are elsewhere:
//
//	pool_test.go         TestWhatIsWrongWithTheCredentialIsSaidByNew (each failure of Entra's, at start-up),
//	                     TestOutageOfEntraUnderLoad, TestCloseDuringAFetchLeavesNothing
//	login_test.go        TestRefusedLoginSaysWhatToDo, TestListenerThatHasNoTLSGetsNoToken,
//	                     TestErrorOfStartupThatIsNotAboutTheLoginIsLeftAlone (53300 by the stand-in),
//	                     TestRefusalByAServerWithTwoHostsIsTriedOnTheOther
//	hook_test.go         TestBadInputIsAClearError (tokens empty, expired, without an expiry),
//	                     TestHangingCredentialHoldsNoSlotOfThePoolPastTheTokenTimeout
//	tokencache_test.go   outages, back-off, the same token again, RefreshOn on the first answer only, in virtual time
//	rejection_test.go    the advice on each message of the server's

// together runs tests that mostly wait all at once, however few processors there are: t.Parallel would not.
func together(t *testing.T, tests map[string]func(*testing.T)) {
	var running sync.WaitGroup
	for name, test := range tests {
		running.Go(func() { t.Run(name, test) })
	}
	running.Wait()
}

// record is a table to write to, and what was acknowledged.
type record struct {
	azure azure
	table string

	mu           sync.Mutex // guards what follows
	last         int
	acknowledged []int
}

func newRecord(t *testing.T, a azure) *record {
	t.Helper()
	r := &record{azure: a, table: fmt.Sprintf("aadpool_fault_%d", time.Now().UnixNano())}
	require.NoError(t, a.EnsureRole(t.Context(), a.app.Name))
	require.NoError(t, asSuperuser(a, "create table "+r.table+" (id int primary key); grant select, insert on "+r.table+" to "+
		pgx.Identifier{a.app.Name}.Sanitize()))
	t.Cleanup(func() { assert.NoError(t, asSuperuser(a, "drop table "+r.table)) })
	return r
}

// write writes a row.
func (r *record) write(ctx context.Context, pool *pgxpool.Pool) error {
	r.mu.Lock()
	r.last++
	id := r.last
	r.mu.Unlock()
	if _, err := pool.Exec(ctx, "insert into "+r.table+" values ($1)", id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acknowledged = append(r.acknowledged, id)
	return nil
}

// checkNothingIsLost compares what was acknowledged with what the server itself has.
func (r *record) checkNothingIsLost(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := connectAsSuperuser(ctx, r.azure)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var found int
	require.NoError(t, conn.QueryRow(ctx, "select count(*) from "+r.table+" where id = any ($1)", r.acknowledged).Scan(&found))
	require.NotEmpty(t, r.acknowledged)
	assert.Equal(t, len(r.acknowledged), found, "acknowledged writes that are there")
}

// connectAsSuperuser connects to the database server itself, past the stand-in and any pool.
func connectAsSuperuser(ctx context.Context, a azure) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(a.Postgres.DSN())
	if err != nil {
		return nil, err
	}
	config.Database = "postgres"
	config.RuntimeParams["synchronous_commit"] = "on" // no crash of the server's processes undoes what it does
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// asSuperuser runs sql on the database server itself.
func asSuperuser(a azure, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := connectAsSuperuser(ctx, a)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return errors.Join(err, conn.Close(ctx))
}

// needsOwnPostgres skips a test of what cannot be done to a server that somebody else has started: its processes are not
// to be killed, and its sessions do not log in as the roles that they are for.
func needsOwnPostgres(t *testing.T, a azure) {
	t.Helper()
	if _, err := a.TLSDSN(a.app.Name); err != nil {
		t.Skip("this needs a server that the tests started: ", err)
	}
}
