package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/initdb"
	"github.com/aadpool/aadpool/internal/signingkey"
)

// clientEnv makes the test binary a client that knows of the stand-ins by its environment alone. It names the
// credential.
const clientEnv = "SERVE_TEST_CREDENTIAL"

func TestMain(m *testing.M) {
	if credential := os.Getenv(clientEnv); credential != "" {
		os.Exit(runClient(credential))
	}
	signingkey.Reuse()
	initdb.Reuse()
	os.Exit(runTests(m))
}

// shared is a PostgreSQL that serve uses in most tests, in place of one of its own.
var shared *aadpooltest.Postgres

func runTests(m *testing.M) int {
	pg, err := aadpooltest.StartPostgres(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = pg
	status := m.Run()
	if err := pg.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// runClient logs in with azidentity and pgx, both without a single option, and prints who it is.
func runClient(credential string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var cred azcore.TokenCredential
	var err error
	switch credential {
	case "environment":
		cred, err = azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
			ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}})
	case "managed-identity":
		cred, err = azidentity.NewManagedIdentityCredential(nil)
	case "cli":
		cred, err = azidentity.NewAzureCLICredential(nil)
	}
	if err == nil {
		err = printUser(ctx, cred)
	}
	if err != nil {
		fmt.Println(err)
		return 3
	}
	return 0
}

func printUser(ctx context.Context, cred azcore.TokenCredential) error {
	scope := policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}}
	token, err := cred.GetToken(ctx, scope)
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.Password = token.Token
	config.OAuthTokenProvider = func(context.Context) (string, error) { return token.Token, nil }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var user, database string
	if err := conn.QueryRow(ctx, "select session_user, current_database()").Scan(&user, &database); err != nil {
		return err
	}
	_, err = fmt.Println(user, database)
	return err
}

func TestCommandFindsTheStandIns(t *testing.T) {
	t.Setenv(aadpooltest.DatabaseEnv, shared.DSN())
	t.Setenv("AZURE_CLIENT_ID", "somebody else's")
	t.Setenv("PGPASSWORD", "hunter2")
	self, err := os.Executable()
	require.NoError(t, err)
	for _, row := range []struct {
		name, credential string
		flags            []string
		status           int
		want             string
	}{
		{"a service principal", "environment", nil, 0, "orders-api DATABASE\n"},
		{"a managed identity", "managed-identity", []string{"-kind", "managed-identity", "-role", "orders-identity"}, 0,
			"orders-identity DATABASE\n"},
		{"a user of the Azure CLI", "cli", []string{"-kind", "user", "-role", "ada@example.com"}, 0,
			"ada@example.com DATABASE\n"},
		{"by OAUTHBEARER", "environment", []string{"-oauthbearer"}, 0, "orders-api DATABASE\n"},
		{"an administrator", "environment", []string{"-administrator", "-role", "dba"}, 0, "dba DATABASE\n"},
		{"Entra is down", "environment", []string{"-fault", "entra-down"}, 3, "AADSTS90033"},
		{"Entra throttles", "environment", []string{"-fault", "entra-throttles"}, 3, "AADSTS90055"},
		{"nobody has created the role", "environment", []string{"-fault", "role-missing"}, 3, "28P01"},
		{"the server is another cloud's", "environment", []string{"-fault", "wrong-audience"}, 3, "usgovcloudapi"},
		{"the server is full", "environment", []string{"-fault", "server-full"}, 3, "too many clients"},
		{"the server stalls", "environment", []string{"-fault", "server-stalls"}, 3, "timeout"},
		{"the token has ended", "environment", []string{"-token-age", "2h"}, 3, "token has expired"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv(clientEnv, row.credential)
			command := []string{"--", self}
			if slices.Contains(row.flags, "server-stalls") {
				command = []string{"--", "env", "PGCONNECT_TIMEOUT=2", self} // the client's alone
			}
			var stdout, stderr bytes.Buffer
			database := newDatabase()
			status := run(slices.Concat([]string{"-database", database}, row.flags, command), &stdout, &stderr)
			assert.Equal(t, row.status, status, stderr.String())
			assert.Contains(t, stdout.String(), strings.ReplaceAll(row.want, "DATABASE", database))
		})
	}
}

// databases are the databases made so far.
var databases int

// newDatabase returns the name of one that is not there yet.
func newDatabase() string {
	databases++
	return fmt.Sprint("orders", databases)
}

func TestExitStatus(t *testing.T) {
	t.Setenv(aadpooltest.DatabaseEnv, shared.DSN())
	for _, row := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"the command's own", []string{"--", "sh", "-c", "exit 7"}, 7, ""},
		{"a signal ended it", []string{"--", "sh", "-c", "kill -KILL $$"}, 137, ""},
		{"there is no such command", []string{"--", "no-such-command"}, 1, "serve: starting the command"},
		{"a database that is there already", []string{"-database", "postgres"}, 1, `database "postgres" already exists`},
		{"a mistyped flag", []string{"-rolle", "x"}, 2, "usage: serve"},
		{"an unknown kind", []string{"-kind", "robot"}, 2, "want one of service, managed-identity, user"},
		{"an unknown fault", []string{"-fault", "rain"}, 2, "no such fault"},
		{"a principal without a kind", []string{"-register", "billing-api"}, 2, "want kind=name"},
		{"help", []string{"-help"}, 0, "usage: serve"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"-database", newDatabase()}, row.args...)
			assert.Equal(t, row.status, run(args, &stdout, &stderr), stderr.String())
			assert.Contains(t, stderr.String(), row.want)
		})
	}
}

func TestServesUntilASignal(t *testing.T) {
	t.Setenv(aadpooltest.DatabaseEnv, "")
	flags := []string{"-json", "-password", "-role", "it's me", "-register", "service=billing-api"}
	o, err := parseOptions(flags, io.Discard)
	require.NoError(t, err)
	reader, writer := io.Pipe()
	signals, ended := make(chan os.Signal, 1), make(chan int, 1)
	go func() {
		status, err := serve(o, signals, writer, io.Discard)
		assert.NoError(t, err)
		ended <- status
	}()
	var environment map[string]string
	require.NoError(t, json.NewDecoder(reader).Decode(&environment))
	config, err := pgx.ParseConfig(environment["DATABASE_URL"])
	require.NoError(t, err)
	config.Password = environment["PGPASSWORD"]
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(t.Context())

	signals <- syscall.SIGTERM
	assert.Equal(t, 0, <-ended)
	for _, file := range []string{"SSL_CERT_FILE", "PGSSLROOTCERT"} {
		assert.NoFileExists(t, environment[file])
	}
	require.Error(t, conn.Ping(t.Context()))
}

func TestExportLinesAreAShells(t *testing.T) {
	want := map[string]string{"A": `it's "$HOME" \ and`, "B": "two\nlines"}
	var lines bytes.Buffer
	require.NoError(t, printEnvironment(&lines, want, false))
	assert.True(t, strings.HasPrefix(lines.String(), "export A="))
	for name, value := range want {
		out, err := exec.Command("sh", "-c", lines.String()+`printf %s "$`+name+`"`).Output()
		require.NoError(t, err)
		assert.Equal(t, value, string(out))
	}
}

// A SIGHUP comes when a terminal is closed; serve ends with its command, and leaves nothing.
func TestSignalsReachTheCommand(t *testing.T) {
	// The command gets them, even if nohup, or & in a script, has this process ignore them.
	heeded := make(chan os.Signal, 1)
	signal.Notify(heeded, syscall.SIGHUP, syscall.SIGINT)
	defer signal.Stop(heeded)
	for sent, statuses := range map[os.Signal][]int{
		// 128 and the number where the signal comes before the trap is set.
		syscall.SIGTERM: {5, 143},
		syscall.SIGHUP:  {7, 129},
	} {
		t.Run(sent.String(), func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			signals <- syscall.SIGINT // the terminal's, not for passing on
			signals <- sent
			status, err := runCommand([]string{"sh", "-c",
				"trap 'exit 5' TERM; trap 'exit 6' INT; trap 'exit 7' HUP; while :; do sleep 0.1; done"},
				nil, signals, io.Discard, io.Discard)
			require.NoError(t, err)
			assert.Contains(t, statuses, status)
		})
	}
}
