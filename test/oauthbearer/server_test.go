//go:build linux

package oauthbearer_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/test/internal/daemon"
	"github.com/aadpool/aadpool/test/internal/pgserver"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

const (
	// programsEnv is the directory of the programs of a PostgreSQL 18 or newer. Without it, nothing here runs.
	programsEnv = "AADPOOL_OAUTHBEARER"
	// headersEnv is the directory of its server's header files: what "pg_config --includedir-server" says, if not set.
	headersEnv = "AADPOOL_OAUTHBEARER_HEADERS"
)

// programs returns the directory of PostgreSQL's programs, or skips the test.
func programs(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(programsEnv)
	if dir == "" {
		t.Skipf("set %s to the directory of the programs of a PostgreSQL 18; make matrix-oauthbearer does", programsEnv)
	}
	require.True(t, pgserver.HasPrograms(dir, "initdb", "postgres"), "%s has no initdb and postgres", dir)
	return dir
}

// buildValidator compiles validator.c for the server, and returns the library.
func buildValidator(t testing.TB, bin, dir string) string {
	t.Helper()
	headers := os.Getenv(headersEnv)
	if headers == "" {
		out, err := exec.Command(filepath.Join(bin, "pg_config"), "--includedir-server").Output()
		require.NoErrorf(t, err, "set %s: there is no pg_config in %s to tell", headersEnv, bin)
		headers = strings.TrimSpace(string(out))
	}
	built := filepath.Join(t.TempDir(), "validator.so")
	// The headers take in those of the client library, which Debian has one directory above the version's.
	out, err := exec.Command("cc", "-shared", "-fPIC", "-O2", "-Wall", "-I", headers, "-I",
		filepath.Join(headers, "../.."),
		"-o", built, "validator/validator.c").CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	code, err := os.ReadFile(built)
	require.NoError(t, err)
	library := filepath.Join(dir, "validator.so")
	daemon.WriteFile(t, library, string(code))
	return library
}

// A server is a PostgreSQL that asks for a token by OAUTHBEARER, inside TLS, and has validator.c decide.
type server struct {
	*pgserver.Server
	root string
}

func start(t testing.TB, entra *aadpooltest.Authority) *server {
	t.Helper()
	issuer := daemon.NewIssuer(t)
	s := &server{Server: pgserver.New(t, programs(t), issuer)}
	s.root = filepath.Join(s.Dir, "root.crt")
	issuer.RootFile(t, s.root)
	s.Initialise(t,
		fmt.Sprintf("local all all trust\nhostssl all all 127.0.0.1/32 oauth issuer=\"%s%s/v2.0\" scope=\"%s/.default\"\n",
			entra.URL(), entra.TenantID(), aadpooltest.DefaultAudience))
	s.Start(t, "oauth_validator_libraries="+buildValidator(t, s.Bin, s.Dir))
	s.answerValidator(t, entra)
	return s
}

func (s *server) dsn(role string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s", role, s.Port, s.root)
}

// answerValidator tells validator.c whom a token is for, if it is a good one for this server.
func (s *server) answerValidator(t testing.TB, entra *aadpooltest.Authority) {
	t.Helper()
	path := filepath.Join(s.Data, "validator.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	daemon.Own(t, path)
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { answer(conn, entra) })
		}
	})
}

func answer(conn net.Conn, entra *aadpooltest.Authority) {
	defer conn.Close()
	token, err := bufio.NewReaderSize(conn, 1<<16).ReadString('\n')
	if err != nil {
		return
	}
	if claims, err := entra.Verify(strings.TrimSuffix(token, "\n"), aadpooltest.DefaultAudience); err == nil {
		_, _ = conn.Write([]byte(claims.Name))
	}
}
