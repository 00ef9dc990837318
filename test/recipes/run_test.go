//go:build unix

package recipes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// programsEnv names the directory into which scripts/install-recipes.sh has put the programs.
const programsEnv = "AADPOOL_RECIPES"

// A run is a recipe whose blocks are pasted, one after the other.
type run struct {
	page, program string
	files         string   // a directory of testdata, which a reader has; default: the program's, if there is one
	databases     []string // default: orders. The role owns them.
	role          string   // default: orders-api
	// identity is what the machine sets; default: a client secret.
	identity func(*testing.T, *kitchen) map[string]string

	after  string // a recipe of the same page that the reader has been through before
	types  string // what the reader types
	prints string // what the blocks print somewhere
	query  string // what the first database says afterwards, asked as its administrator
	want   string

	serves string // the last block serves: the address that answers 200 when it is ready
	probe  string // commands that must succeed while tokens are renewed
	probed string // what they print somewhere
}

// kitchen is a reader's machine, with stand-ins for Azure beside it.
type kitchen struct {
	run
	postgres    *aadpooltest.Postgres
	entra       *aadpooltest.Authority
	server      *aadpooltest.Server
	app         aadpooltest.Principal
	dir         string
	environment map[string]string
}

func TestRecipes(t *testing.T) {
	programs := os.Getenv(programsEnv)
	if programs == "" {
		t.Skip("make recipes runs this")
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "aadpool"), ".")
	build.Dir = root + "/cmd/aadpool"
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, r := range runs {
		t.Run(r.program, func(t *testing.T) {
			k := newKitchen(t, r, programs, bin)
			if r.after != "" {
				before := *k
				before.run = run{page: r.page, program: r.after, databases: r.databases}
				before.cook(t)
			}
			k.cook(t)
			if r.query != "" {
				assert.Equal(t, r.want, k.ask(t, r.query))
			}
		})
	}
}

func newKitchen(t *testing.T, r run, programs, bin string) *kitchen {
	k := &kitchen{run: r, dir: t.TempDir()}
	k.open(t)
	if k.databases == nil {
		k.databases = []string{"orders"}
	}
	k.role = cmp.Or(k.role, "orders-api")
	k.app = k.entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: k.role})
	var dsn string
	for i, database := range k.databases {
		k.drop(t, database) // of the recipe before
		made, err := k.server.CreateDatabase(t.Context(), database, k.role)
		require.NoError(t, err)
		if i == 0 {
			dsn = made
		}
	}
	if files := filepath.Join("testdata", cmp.Or(k.files, strings.ToLower(k.program))); isDir(files) {
		require.NoError(t, os.CopyFS(k.dir, os.DirFS(files)))
	}
	require.NoError(t, os.Symlink(filepath.Join(programs, "node_modules"), filepath.Join(k.dir, "node_modules")))
	k.environment = k.surroundings(t, dsn, programs, bin)
	return k
}

// open starts the stand-ins. One certificate authority is all that the programs trust, as on a reader's machine.
func (k *kitchen) open(t *testing.T) {
	ca, err := aadpooltest.NewCertificateAuthority()
	require.NoError(t, err)
	k.postgres, err = azuretest.SharedPostgres()
	require.NoError(t, err)
	k.entra, err = aadpooltest.NewAuthority(aadpooltest.WithCertificateAuthority(ca))
	require.NoError(t, err)
	t.Cleanup(k.entra.Close)
	k.server, err = aadpooltest.NewServer(k.entra, k.postgres, aadpooltest.WithCertificateAuthority(ca))
	require.NoError(t, err)
	t.Cleanup(k.server.Close)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// surroundings are the reader's environment: of this process's nothing but what finds programs.
func (k *kitchen) surroundings(t *testing.T, dsn, programs, bin string) map[string]string {
	trust, err := k.entra.TrustEnv(t.TempDir())
	require.NoError(t, err)
	runtime, err := os.MkdirTemp("", "r") // short, for sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	host, port, err := net.SplitHostPort(k.server.Addr())
	require.NoError(t, err)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	env := map[string]string{"DSN": dsn, "HOME": t.TempDir(), "XDG_RUNTIME_DIR": runtime, "LANG": "C.UTF-8",
		"PATH": strings.Join([]string{bin, filepath.Join(programs, "bin"), filepath.Join(programs, "node_modules", ".bin"),
			"/usr/bin", "/bin", os.Getenv("PATH")}, ":"), // Debian's before others of the same name
		"AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true", "PYTHONDONTWRITEBYTECODE": "1",
		// For programs that log in to the server themselves:
		"PGHOST": host, "PGPORT": port, "PGUSER": k.role, "PGDATABASE": config.Database}
	maps.Copy(env, trust)
	if k.identity == nil {
		maps.Copy(env, k.entra.ClientSecretEnv(k.app))
	} else {
		maps.Copy(env, k.identity(t, k))
	}
	return env
}

// here is a recipe's text with this machine's server, roots and temporary files in it.
func (k *kitchen) here(text string) string {
	text = strings.ReplaceAll(text, " /tmp/", " "+k.dir+"/") // first: the others are paths below it
	text = strings.ReplaceAll(text, "/etc/ssl/certs/ca-certificates.crt", k.environment["SSL_CERT_FILE"])
	text = strings.ReplaceAll(text, "orders.postgres.database.azure.com:5432", k.server.Addr())
	return strings.ReplaceAll(text, "orders.postgres.database.azure.com", k.environment["PGHOST"])
}

// cook pastes the recipe's blocks.
func (k *kitchen) cook(t *testing.T) {
	r := find(t, k.page, k.program)
	last := 0
	for i, b := range r.blocks {
		if b.commands() != "" {
			last = i
		}
	}
	printed := ""
	for i, b := range r.blocks {
		if b.file != "" {
			path := filepath.Join(k.dir, b.file)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(k.here(b.code)), 0o644))
		}
		commands := b.commands()
		if k.serves != "" && i == last {
			k.serve(t, commands)
		} else if commands != "" {
			out, err := k.bash(t, k.here(commands))
			require.NoError(t, err, "%s:%d\n%s\n%s", k.page, b.line, commands, out)
			printed += out
		}
	}
	t.Log(printed)
	assert.NotRegexp(t, azuretest.AnyJWT, printed)
	assert.Regexp(t, k.prints, printed)
}

// start starts commands in a process group of their own, which the caller ends. They print into a file: what they leave
// in the background has it open.
func (k *kitchen) start(ctx context.Context, t *testing.T, commands string) (*exec.Cmd, func() string) {
	output, err := os.CreateTemp(t.TempDir(), "output")
	require.NoError(t, err)
	defer output.Close()
	shell := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", commands)
	shell.Dir, shell.Stdin, shell.Stdout, shell.Stderr = k.dir, strings.NewReader(k.types), output, output
	for name, value := range k.environment {
		shell.Env = append(shell.Env, name+"="+value)
	}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	require.NoError(t, shell.Start())
	return shell, func() string {
		text, err := os.ReadFile(output.Name())
		require.NoError(t, err)
		return string(text)
	}
}

// bash runs commands. What they leave in the background ends with the test.
func (k *kitchen) bash(t *testing.T, commands string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	shell, printed := k.start(ctx, t, commands)
	t.Cleanup(func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) })
	err := shell.Wait()
	return printed(), err
}

// serve runs the block until the token has been renewed twice, and has logged it in anew each time.
func (k *kitchen) serve(t *testing.T, commands string) {
	k.entra.SetTokenLife(tokenLife)
	shell, printed := k.start(context.Background(), t, k.here(commands))
	defer func() {
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM)
		_ = shell.Wait()
		assert.NotRegexp(t, azuretest.AnyJWT, printed())
		if t.Failed() {
			t.Log(printed())
		}
	}()
	require.Eventually(t, func() bool { return answers(k.serves) }, time.Minute, 50*time.Millisecond, "it is not ready")
	logins := len(k.server.Logins())
	first := k.entra.Requests()
	for seen, began := first, time.Now(); seen < first+2; {
		require.Less(t, time.Since(began), 5*time.Minute, "no renewal")
		if now := k.entra.Requests(); now > seen {
			seen = now
			k.server.CloseConnections() // the next ones log in with the new token
		}
		out, err := k.bash(t, k.probe)
		require.NoError(t, err, "%s", out)
		require.Contains(t, out, k.probed)
	}
	assert.Greater(t, len(k.server.Logins()), logins)
}

// tokenLife is short enough to see renewals, and longer than a login takes.
const tokenLife = 15 * time.Second

func answers(address string) bool {
	response, err := http.Get(address)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// ask is what a query says to the database's administrator.
func (k *kitchen) ask(t *testing.T, query string) string {
	config, err := pgx.ParseConfig(k.postgres.DSN())
	require.NoError(t, err)
	config.Database = k.databases[0]
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var answer string
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&answer), "%s", query)
	return answer
}

func (k *kitchen) drop(t *testing.T, database string) {
	conn, err := pgx.Connect(t.Context(), k.postgres.DSN())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), fmt.Sprintf("drop database if exists %s with (force)",
		pgx.Identifier{database}.Sanitize()))
	require.NoError(t, err)
}
