package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// programEnv has this test's process be the program itself, with the arguments that it holds.
const programEnv = "AADPOOL_TEST_PROGRAM"

// TestProgram is not a test: see newProgram and defaultProgram.
func TestProgram(t *testing.T) {
	arguments, ok := os.LookupEnv(programEnv)
	if !ok {
		t.Skip("it is for other tests")
	}
	_ = os.Unsetenv(programEnv)
	os.Args = append([]string{"aadpool"}, strings.Split(arguments, "\n")...)
	main()
}

// clientEnv has it be a client that knows DATABASE_URL, since the systems have none in common.
const clientEnv = "AADPOOL_TEST_CLIENT"

// TestClient is not a test: see TestProgramLogsInForACommand.
func TestClient(t *testing.T) {
	if os.Getenv(clientEnv) == "" {
		t.Skip("it is for another test")
	}
	fmt.Println(sessionUser(t, os.Getenv("DATABASE_URL")))
	os.Exit(0)
}

func sessionUser(t *testing.T, dsn string) (user string) {
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(context.Background(), "select session_user").Scan(&user))
	return user
}

// defaultProgram is aadpool proxy in a process of its own, on each system, with an identity of App Service: its
// endpoint has no TLS, whose roots could be given by an environment variable on Linux alone.
func defaultProgram(t *testing.T, args ...string) *exec.Cmd {
	commandtest.ClearEnvironment(t)
	a := azuretest.New(t)
	identity := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-orders"})
	home := commandtest.ShortDir(t)
	commandtest.Setenv(t, a.AppServiceEnv(identity))
	commandtest.Setenv(t, map[string]string{"HOME": home, "AppData": home, "XDG_RUNTIME_DIR": home,
		"AZURE_CLIENT_ID": identity.ClientID})
	self, err := os.Executable()
	require.NoError(t, err)
	args = append([]string{"proxy", a.Server.DSN("id-orders"), "--credential=managed-identity"}, args...)
	cmd := exec.Command(self, "-test.run=^TestProgram$")
	cmd.Env = append(os.Environ(), programEnv+"="+strings.Join(args, "\n"))
	return cmd
}

// The program as it is started without a flag, on each system.
func TestProgramLogsInForACommand(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := defaultProgram(t, "--", self, "-test.run=^TestClient$")
	cmd.Env = append(cmd.Env, clientEnv+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	assert.Equal(t, "id-orders", strings.TrimSpace(string(out)))
}

func TestProgramServesByItsDefaults(t *testing.T) {
	if runtime.GOOS == "windows" {
		free, err := net.Listen("tcp", commandtest.ProxyTCPAddress)
		require.NoError(t, err, "a PostgreSQL there?")
		require.NoError(t, free.Close())
	}
	cmd := defaultProgram(t, "--log-format=json")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	address, passwordFile := listening(t, bufio.NewScanner(stderr))
	u := url.URL{Scheme: "postgresql", User: url.User("id-orders"), Path: "postgres"}
	if runtime.GOOS == "windows" {
		password, err := os.ReadFile(passwordFile)
		require.NoError(t, err)
		u.Host, u.User = address, url.UserPassword("id-orders", strings.TrimSpace(string(password)))
	} else {
		u.RawQuery = url.Values{"host": {filepath.Dir(address)}}.Encode()
	}
	assert.Equal(t, "id-orders", sessionUser(t, u.String()))
}

// listening reads the program's log until it says where it listens.
func listening(t *testing.T, log *bufio.Scanner) (address, passwordFile string) {
	var all strings.Builder
	for log.Scan() {
		all.WriteString(log.Text() + "\n")
		var line struct{ Msg, Address, File string }
		if json.Unmarshal(log.Bytes(), &line) != nil {
			continue
		}
		if line.File != "" {
			passwordFile = line.File
		}
		if line.Msg == "listening" {
			return line.Address, passwordFile
		}
	}
	require.Fail(t, "the program has ended", "%s", &all)
	return "", ""
}
