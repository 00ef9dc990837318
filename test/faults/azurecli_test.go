package faults_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// laptop is a machine with a directory for az, and two people who use it.
type laptop struct {
	azuretest.Azure
	bin, path string
	ada, bob  aadpooltest.Principal
}

func newLaptop(t *testing.T) laptop {
	t.Helper()
	l := laptop{Azure: azuretest.New(t), bin: t.TempDir(), path: os.Getenv("PATH")}
	l.ada = l.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@contoso.example"})
	l.bob = l.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "bob@contoso.example"})
	azuretest.SetAzureEnv(t, nil)
	return l
}

// as is the same Azure with p for its App.
func (l laptop) as(p aadpooltest.Principal) azuretest.Azure {
	a := l.Azure
	a.App = p
	return a
}

// login is `az login` as that user.
func (l laptop) login(t *testing.T, p aadpooltest.Principal) {
	t.Setenv("PATH", l.bin+string(os.PathListSeparator)+l.path) // the stand-in needs bash
	require.NoError(t, l.InstallAzureCLI(p, l.bin))
}

// uninstall leaves no az on PATH, nor anything else.
func (l laptop) uninstall(t *testing.T) {
	t.Setenv("PATH", l.bin)
	_ = os.Remove(filepath.Join(l.bin, "az"))
}

func (l laptop) logOut(t *testing.T) {
	l.az(t, `echo "ERROR: Please run 'az login' to setup account." >&2; exit 1`)
}

// az is another az, by a shell script.
func (l laptop) az(t *testing.T, script string) {
	t.Helper()
	l.uninstall(t)
	name := filepath.Join(l.bin, "az")
	require.NoError(t, os.WriteFile(name+".new", []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	require.NoError(t, os.Rename(name+".new", name))
}

// newPool makes a pool as soon as az has said its token whole: azidentity waits 100 ms for the output of a program that
// has ended, and then takes a part of it for all. A machine that is too busy reads it later.
func (l laptop) newPool(t *testing.T, user string, cred azcore.TokenCredential, opts ...aadpool.Option) (
	*pgxpool.Pool, *aadpool.Hook,
) {
	t.Helper()
	return eventuallyNewPool(t, l.Server.DSN(user), cred, opts...)
}

// TestAzureCLI: what is wrong with az is what the error says; and when that has been put right, the same credential
// works.
func TestAzureCLI(t *testing.T) {
	for _, row := range []struct {
		name string
		fail func(t *testing.T, l laptop)
		sees string
	}{
		{"not installed", func(t *testing.T, l laptop) { l.uninstall(t) }, "az is not on PATH"},
		{"logged out", func(t *testing.T, l laptop) { l.logOut(t) }, "Please run 'az login' to setup account"},
		{"slow", func(t *testing.T, l laptop) { l.az(t, "exec /bin/sleep 4") }, "no answer within the token timeout of 3s"},
		{"saying something else than a token", func(t *testing.T, l laptop) {
			l.az(t, "echo Hello")
		}, "invalid character 'H'"},
		{"with an answer that has no token", func(t *testing.T, l laptop) {
			l.az(t, `echo '{"expires_on": 4102444800}'`)
		}, "the credential returned an empty token"},
		{"with a token that has expired", func(t *testing.T, l laptop) {
			l.SetTokenAge(2 * time.Hour)
			l.login(t, l.ada)
		}, "expired"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLaptop(t)
			cred, err := azidentity.NewAzureCLICredential(nil)
			require.NoError(t, err)
			row.fail(t, l)
			timeout := time.Minute
			if row.name == "slow" {
				timeout = 3 * time.Second
			}
			require.EventuallyWithT(t, func(c *assert.CollectT) { // what az says may be cut: see newPool
				_, err := aadpool.New(t.Context(), l.Server.DSN(l.ada.Name), cred, aadpool.WithTokenTimeout(timeout))
				azuretest.Printed.Value(err)
				require.ErrorContains(c, err, "aadpool: no access token for https://ossrdbms-aad.database.windows.net/.default: ")
				require.ErrorContains(c, err, row.sees)
			}, time.Minute, 20*time.Millisecond)

			l.SetTokenAge(0)
			l.login(t, l.ada)
			pool, _ := l.newPool(t, l.ada.Name, cred)
			assert.Equal(t, l.ada.Name, azuretest.Whoami(t, pool))
		})
	}
}

// TestAzureCLILoggedOutWhileAPoolIsInUse: connects go on while the token lasts. Then they fail, with what to do; and
// succeed again when that has been done.
func TestAzureCLILoggedOutWhileAPoolIsInUse(t *testing.T) {
	l := newLaptop(t)
	l.SetTokenLife(4 * time.Second)
	l.login(t, l.ada)
	cred, err := azidentity.NewAzureCLICredential(nil)
	require.NoError(t, err)
	pool, hook := l.newPool(t, l.ada.Name, cred)
	writes := azuretest.NewWrites(t, l.as(l.ada))
	defer writes.CheckNothingIsLost(t)
	l.logOut(t)
	writeUntil(t, writes, pool, hook.Stats().TokenExpires)
	// In its last moments the token may end while a login by it is under way.
	require.Eventually(t, func() bool {
		pool.Reset()
		err := writes.Write(t.Context(), pool)
		azuretest.Printed.Value(err)
		return err != nil && strings.Contains(err.Error(), "Please run 'az login' to setup account")
	}, time.Minute, 20*time.Millisecond)

	l.login(t, l.ada)
	require.Eventually(t, func() bool { return writes.Write(t.Context(), pool) == nil }, time.Minute, 20*time.Millisecond)
}

// TestAzureCLISwitchedToAnotherUser: the DSN's role is ada's. With bob's token the server refuses it, and the hint says
// why; when ada is back, so is the pool. With WithUserFromToken the role follows the token.
func TestAzureCLISwitchedToAnotherUser(t *testing.T) {
	l := newLaptop(t)
	l.SetTokenLife(3 * time.Second)
	l.login(t, l.ada)
	cred, err := azidentity.NewAzureCLICredential(nil)
	require.NoError(t, err)
	pool, hook := l.newPool(t, l.ada.Name, cred)
	following, _ := l.newPool(t, "somebody", cred, aadpool.WithUserFromToken())
	writes := azuretest.NewWrites(t, l.as(l.ada))
	defer writes.CheckNothingIsLost(t)
	// A token may end, and az may fail, in the middle of any login: see newPool.
	eventually := func(done func() bool, what string) {
		t.Helper()
		require.Eventually(t, done, time.Minute, 20*time.Millisecond, what)
	}
	write := func() bool { return writes.Write(t.Context(), pool) == nil }
	connect := func(p *pgxpool.Pool) error { p.Reset(); return p.Ping(t.Context()) }
	followsTo := func(p aadpooltest.Principal) func() bool {
		return func() bool {
			var role string
			following.Reset()
			err := following.QueryRow(t.Context(), "select session_user").Scan(&role)
			return err == nil && role == p.Name
		}
	}
	eventually(write, "ada writes")
	eventually(followsTo(l.ada), "the role is ada's")

	l.login(t, l.bob)
	var refused *pgconn.PgError
	eventually(func() bool {
		return errors.As(connect(pool), &refused) && strings.Contains(refused.Hint, l.bob.Name)
	}, "with ada's last token gone, bob's is next, and the hint says whose token it is")
	azuretest.Printed.Value(refused)
	assert.Contains(t, refused.Message, `password authentication failed for user "ada@contoso.example"`)
	assert.Positive(t, hook.Stats().Refused)
	eventually(followsTo(l.bob), "the role is bob's")

	l.login(t, l.ada)
	eventually(func() bool { return connect(pool) == nil }, "ada is back, and so is the pool")
	eventually(write, "ada writes again")
}
