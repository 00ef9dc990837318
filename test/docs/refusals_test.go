package docs_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/refusal"
)

// TestRefusalsHaveTheReasonsOfTheTable logs in to a server that answers with the words of each row.
func TestRefusalsHaveTheReasonsOfTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table(t, troubleshooting, "## A refused login") {
		require.Len(t, r.cells, 5, "line %d", r.line)
		words, code, reason := r.messages(0)[0], strings.TrimSpace(r.cells[1]), r.messages(2)[0]
		seen[reason] = true
		t.Run(words+" "+reason, func(t *testing.T) {
			size := 1300
			if reason == string(aadpool.ReasonTokenTooLong) {
				size = 2048
			}
			said := strings.ReplaceAll(words, "…", "x")
			server := listen(t, refuse(code, said))
			_, err := connect(t, newHook(t, tokenOfSize(size)), server)
			explained, ok := aadpool.Explain(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, reason, string(explained.Reason))
			assert.Equal(t, said, explained.Message)
			assert.Contains(t, err.Error(), "[aadpool: "+explained.Advice+"]")
		})
	}
	for _, reason := range reasons(t) {
		assert.True(t, seen[reason], "the table has no row for reason %q", reason)
	}
}

// reasons are the values of the constants of type refusal.Reason.
func reasons(t *testing.T) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal/refusal/refusal.go"), nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				if refusal.Reason(value) != refusal.None {
					values = append(values, value)
				}
			}
		}
		return true
	})
	require.Greater(t, len(values), 8)
	return values
}

func tokenOfSize(size int) *azuretest.Credential {
	return azuretest.Static(azcore.AccessToken{Token: strings.Repeat("n", size), ExpiresOn: time.Now().Add(time.Hour)})
}

func newHook(t *testing.T, cred azcore.TokenCredential, opts ...aadpool.Option) *aadpool.Hook {
	t.Helper()
	azuretest.ClearPGEnv(t)
	silent := aadpool.WithLogger(slog.New(slog.DiscardHandler))
	hook, err := aadpool.NewHook(cred, append([]aadpool.Option{silent}, opts...)...)
	require.NoError(t, err)
	return hook
}

// listen starts a server on this machine that answers connections one at a time, and returns its DSN.
func listen(t *testing.T, answer func(net.Conn)) (dsn string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answer(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return fmt.Sprintf("postgres://orders-api@%s/orders?sslmode=disable&connect_timeout=60", listener.Addr())
}

// refuse asks for a password, and does not like it.
func refuse(code, message string) func(net.Conn) {
	return func(conn net.Conn) {
		backend := askForPassword(conn)
		if backend == nil {
			return
		}
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message})
		_ = backend.Flush()
		_, _ = io.Copy(io.Discard, conn) // until the client has read it
	}
}

// askForPassword returns nil if the client gives none.
func askForPassword(conn net.Conn) *pgproto3.Backend {
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return nil
	}
	backend.Send(&pgproto3.AuthenticationCleartextPassword{})
	if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
		return nil
	}
	if _, err := backend.Receive(); err != nil {
		return nil
	}
	return backend
}

func connect(t *testing.T, hook *aadpool.Hook, dsn string) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if err := hook.BeforeConnect(t.Context(), config); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}
