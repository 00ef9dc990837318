package faults_test

import (
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// What goes wrong around a pool, with real servers and unmodified credentials: what happens, what the user sees, and
// that nothing is lost. The tables are in
//
//	entra_test.go     Entra slow, hanging, refusing, throttling, broken, unreachable
//	token_test.go     tokens expired, not yet valid, for another audience, too long, short-lived, long-lived
//	azurecli_test.go  az missing, logged out, slow, switched to another user
//	server_test.go    PostgreSQL crashing, failing over, full, silent, hanging up in the middle of a login
//	pool_test.go      acquires cancelled and pools closed in the middle of anything
//
// all of it at random, under load, is in test/soak, and these tests are at the root:
//
//	clock_test.go        the clock set, the machine asleep
//	pool_test.go         TestWhatIsWrongWithTheCredentialIsSaidByNew (each failure of Entra's, at start-up),
//	                     TestOutageOfEntraUnderLoad, TestCloseDuringAFetchLeavesNothing,
//	                     TestMachineAsleepForTwoHoursWithAPool
//	login_test.go        TestRefusedLoginSaysWhatToDo, TestListenerThatHasNoTLSGetsNoToken,
//	                     TestErrorOfStartupThatIsNotAboutTheLoginIsLeftAlone (53300 by the stand-in),
//	                     TestRefusalByAServerWithTwoHostsIsTriedOnTheOther
//	hook_test.go         TestBadInputIsAClearError (tokens empty, expired, without an expiry),
//	                     TestHangingCredentialHoldsNoSlotOfThePoolPastTheTokenTimeout
//	tokencache_test.go   outages, back-off, the same token again, RefreshOn on the first answer only, in virtual time
//	rejection_test.go    the advice on each message of the server's

func TestMain(m *testing.M) { azuretest.Main(m) }

// newPool makes a pool on a Hook of its own, so that the test can read the Hook's Stats.
func newPool(t testing.TB, dsn string, cred azcore.TokenCredential, change func(*pgxpool.Config),
	opts ...aadpool.Option) (
	*pgxpool.Pool, *aadpool.Hook,
) {
	t.Helper()
	hook, err := aadpool.NewHook(cred, opts...)
	require.NoError(t, err)
	return azuretest.NewPool(t, hook, dsn, change), hook
}

// eventuallyNewPool is newPool for a credential that may fail while the machine is too busy. Each try has a Hook of its
// own, so that the Stats are those of the one that succeeded.
func eventuallyNewPool(t testing.TB, dsn string, cred azcore.TokenCredential, opts ...aadpool.Option) (
	pool *pgxpool.Pool, hook *aadpool.Hook,
) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		tried, err := aadpool.NewHook(cred, opts...)
		require.NoError(c, err)
		made, err := tried.NewPool(t.Context(), dsn)
		azuretest.Printed.Value(err)
		require.NoError(c, err)
		pool, hook = made, tried
	}, time.Minute, 20*time.Millisecond)
	t.Cleanup(pool.Close)
	return pool, hook
}

// reasonOf is why a server refused the login that err is about. The words of its advice are internal/refusal's to test.
func reasonOf(t testing.TB, err error) aadpool.Reason {
	t.Helper()
	refusal, ok := aadpool.Explain(err)
	require.True(t, ok, "%v", err)
	assert.NotEmpty(t, refusal.Advice)
	return refusal.Reason
}

// together runs tests that mostly wait all at once, however few processors there are: t.Parallel would not.
func together(t *testing.T, tests map[string]func(*testing.T)) {
	var running sync.WaitGroup
	for name, test := range tests {
		running.Go(func() { t.Run(name, test) })
	}
	running.Wait()
}
