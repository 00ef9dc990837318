package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
)

const serviceName = "aadpool-test"

// A service of Windows serves, and when it is told to stop lets a transaction end.
func TestProxyAsAServiceOfWindows(t *testing.T) {
	if os.Getenv("AADPOOL_TEST_SERVICE") == "" {
		t.Skip("set AADPOOL_TEST_SERVICE=1 to have a service installed on this machine, and removed again")
	}
	a := azuretest.New(t)
	identity := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-orders"})
	dir := t.TempDir()
	program, password := filepath.Join(dir, "aadpool.exe"), filepath.Join(dir, "password")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(password, []byte("correct horse\n"), 0o600))
	address := freeport.For(t)
	environment := a.AppServiceEnv(identity)
	environment["AZURE_CLIENT_ID"] = identity.ClientID
	s := installService(t, program, environment, "proxy", a.Server.DSN("id-orders"), "--credential=managed-identity",
		"--listen="+address, "--password-file="+password, "--drain=2m")

	require.NoError(t, s.Start())
	awaitState(t, s, svc.Running)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf(
		"host=%s port=%s user=id-orders dbname=postgres password='correct horse' sslmode=disable", host, port))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	var user string
	require.NoError(t, tx.QueryRow(t.Context(), "select session_user").Scan(&user))
	assert.Equal(t, "id-orders", user)

	_, err = s.Control(svc.Stop)
	require.NoError(t, err)
	awaitState(t, s, svc.StopPending)
	_, err = tx.Exec(t.Context(), "select 1")
	require.NoError(t, err, "it drains")
	require.NoError(t, tx.Commit(t.Context()))
	status := awaitState(t, s, svc.Stopped)
	assert.Zero(t, status.Win32ExitCode)
	assert.Zero(t, status.ServiceSpecificExitCode)

	log, err := exec.Command("wevtutil", "query-events", "Application", "/rd:true", "/count:50", "/format:text",
		"/query:*[System[Provider[@Name='aadpool']]]").CombinedOutput()
	require.NoError(t, err, "%s", log)
	assert.Contains(t, string(log), "msg=listening address="+address)
	assert.Contains(t, string(log), "shut down")
}

// installService has a service, with an environment of its own, until the test ends.
func installService(t *testing.T, program string, environment map[string]string, args ...string) *mgr.Service {
	manager, err := mgr.Connect()
	require.NoError(t, err, "it takes an administrator")
	t.Cleanup(func() { _ = manager.Disconnect() })
	s, err := manager.CreateService(serviceName, program, mgr.Config{StartType: mgr.StartManual}, args...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = s.Control(svc.Stop)
		assert.NoError(t, s.Delete())
		_ = s.Close()
	})
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\`+serviceName,
		registry.SET_VALUE)
	require.NoError(t, err)
	defer key.Close()
	var variables []string
	for name, value := range environment {
		variables = append(variables, name+"="+value)
	}
	require.NoError(t, key.SetStringsValue("Environment", variables))
	return s
}

func awaitState(t *testing.T, s *mgr.Service, want svc.State) (status svc.Status) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		status, err = s.Query()
		return err == nil && status.State == want
	}, time.Minute, 50*time.Millisecond, "state %d", want)
	return status
}
