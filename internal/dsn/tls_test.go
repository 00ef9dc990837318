package dsn

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// way describes how an entry connects, in the words of testdata/tls.txt.
func way(t *testing.T, entry *pgconn.FallbackConfig) string {
	c := entry.TLSConfig
	switch {
	case c == nil:
		return "plaintext " + entry.Host
	case !c.InsecureSkipVerify:
		assert.Equal(t, entry.Host, c.ServerName, "the name to be verified")
		return "full " + entry.Host
	case c.VerifyPeerCertificate != nil, c.VerifyConnection != nil:
		return "chain " + entry.Host
	default:
		return "any " + entry.Host
	}
}

func ways(t *testing.T, config *pgconn.Config) string {
	all := []string{way(t, &pgconn.FallbackConfig{Host: config.Host, TLSConfig: config.TLSConfig})}
	for _, entry := range config.Fallbacks {
		all = append(all, way(t, entry))
	}
	return strings.Join(all, ", ")
}

type tlsRow struct{ name, env, dsn, want string }

// tlsRows reads testdata/tls.txt.
func tlsRows(t testing.TB) (rows []tlsRow) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	require.NoError(t, os.WriteFile(root, rootCertificate(t), 0o600))
	service := filepath.Join(dir, "pg_service.conf")
	require.NoError(t, os.WriteFile(service, []byte(
		"[plain]\nhost=service.example\nsslmode=disable\n\n[silent]\nhost=service.example\n\n"+
			"[direct]\nhost=service.example\nsslmode=require\nsslnegotiation=direct\n\n"+
			"[homeless]\nuser=u\n\n[socket]\nhost=/var/run/postgresql\n"), 0o600))

	text, err := os.ReadFile("testdata/tls.txt")
	require.NoError(t, err)
	text = []byte(strings.NewReplacer("$CA", root, "$SERVICE", service).Replace(string(text)))
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		line := scanner.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "|")
		require.Len(t, columns, 4, line)
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		rows = append(rows, tlsRow{columns[0], columns[1], columns[2], columns[3]})
	}
	return rows
}

// clearPGEnv keeps the machine's own settings out of a test.
func clearPGEnv(t *testing.T) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "") // for its restoring
			require.NoError(t, os.Unsetenv(name))
		}
	}
	t.Setenv("HOME", t.TempDir())
}

func TestNoDSNSendsATokenInTheClearOffTheMachine(t *testing.T) {
	for _, row := range tlsRows(t) {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			for _, pair := range strings.Fields(row.env) {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			parsed, err := pgxpool.ParseConfig(row.dsn)
			require.NoError(t, err)
			config := &parsed.ConnConfig.Config
			err = secure(config, policyOf(parsed.ConnString()))
			if want, isError := strings.CutPrefix(row.want, "error: "); isError {
				require.ErrorContains(t, err, want)
				assert.Regexp(t, "use sslmode=verify-full|name the server's host|put host= into the DSN", err.Error(), "what to do")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, ways(t, config))

			require.NoError(t, secure(config, policyOf(parsed.ConnString())))
			assert.Equal(t, row.want, ways(t, config), "once more, as at each connect")
		})
	}
}

func spoilVerification(c *pgconn.Config) { c.TLSConfig = &tls.Config{InsecureSkipVerify: true} }

// What a caller does to a parsed config does not open what its DSN keeps shut.
func TestConfigThatTheCallerChangedSendsNoTokenToJustAnyone(t *testing.T) {
	clearPGEnv(t)
	const (
		disabled = "refusing: or remove the sslmode=disable"
		forgot   = "refusing: Host was set on the config without a TLSConfig"
	)
	root := filepath.Join(t.TempDir(), "root.pem")
	require.NoError(t, os.WriteFile(root, rootCertificate(t), 0o600))
	for _, row := range []struct {
		name, dsn string
		change    func(*pgconn.Config)
		want      string
	}{
		{"the plaintext fallback removed", "postgres://u@db.example/d", func(c *pgconn.Config) {
			c.Fallbacks = nil
		}, "full db.example"},
		{"another host, TLS left as it was", "host=localhost user=u", func(c *pgconn.Config) {
			c.Host = "db.example"
		}, "full db.example"},
		{"another port", "postgres://u@db.example/d", func(c *pgconn.Config) { c.Port = 6432 }, "full db.example"},
		{"a remote host in the place of a Unix socket", "host=/tmp user=u", func(c *pgconn.Config) {
			c.Host = "db.example"
		}, forgot},
		{"loopback in the place of a Unix socket", "host=/tmp user=u", func(c *pgconn.Config) {
			c.Host = "127.0.0.1"
		}, forgot},
		{"TLS without a verification in the place of a Unix socket", "host=/tmp user=u", func(c *pgconn.Config) {
			c.Host, c.TLSConfig = "db.example", &tls.Config{InsecureSkipVerify: true}
		}, "full db.example"},
		{"a remote host in the place of a loopback one without TLS", "host=127.0.0.1 sslmode=disable",
			func(c *pgconn.Config) {
				c.Host = "db.example"
			}, disabled},
		{"no TLS where the DSN requires it", "postgres://u@db.example/d?sslmode=require", func(c *pgconn.Config) {
			c.TLSConfig = nil
		}, forgot},
		{"no TLS on the loopback where the DSN says nothing", "postgres://u@127.0.0.1/d", func(c *pgconn.Config) {
			c.TLSConfig, c.Fallbacks = nil, nil
		}, forgot},
		{"an entry without TLS added", "postgres://u@db.example/d?sslmode=require", func(c *pgconn.Config) {
			c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: "other.example"})
		}, forgot},
		{"verification switched off where the DSN says nothing", "postgres://u@db.example/d", func(c *pgconn.Config) {
			c.TLSConfig, c.Fallbacks = &tls.Config{InsecureSkipVerify: true}, nil
		}, "full db.example"},
		{"verification switched off where the DSN requires no more", "postgres://u@db.example/d?sslmode=require",
			func(c *pgconn.Config) {
				c.TLSConfig = &tls.Config{InsecureSkipVerify: true}
			}, "any db.example"},
		{"verification switched off where the DSN asks for all of it", "postgres://u@db.example/d?sslmode=verify-full",
			spoilVerification, "full db.example"},
		{"the same, with the system's roots", "postgres://u@db.example/d?sslrootcert=system", spoilVerification,
			"full db.example"},
		{"the same, with roots of its own", "postgres://u@db.example/d?sslmode=verify-full&sslrootcert=" + root,
			spoilVerification, "full db.example"},
		{"verification switched off where the DSN asks for the chain",
			"postgres://u@db.example/d?sslmode=verify-ca&sslrootcert=" + root, spoilVerification, "chain db.example"},
		{"the same, by require with a root", "postgres://u@db.example/d?sslmode=require&sslrootcert=" + root,
			spoilVerification, "chain db.example"},
		{"the same, with direct negotiation", "postgres://u@db.example/d?sslmode=verify-full&sslnegotiation=direct",
			spoilVerification, "full db.example"},
		{"one host of two", "postgres://u@a.example,b.example/d?sslmode=verify-full", func(c *pgconn.Config) {
			c.Fallbacks[0].TLSConfig = &tls.Config{InsecureSkipVerify: true}
		}, "full a.example, full b.example"},
		{"a Unix socket in the place of a verified host", "postgres://u@db.example/d?sslmode=verify-full",
			func(c *pgconn.Config) {
				c.Host, c.TLSConfig = "/run/pg", nil
			}, "refusing: sslmode=verify-full asks for TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, err := pgconn.ParseConfig(row.dsn)
			require.NoError(t, err)
			row.change(config)
			err = secure(config, policyOf(row.dsn))
			if advice, refuses := strings.CutPrefix(row.want, "refusing: "); refuses {
				require.ErrorIs(t, err, ErrPlaintext)
				require.ErrorContains(t, err, "refusing to send an access token")
				require.ErrorContains(t, err, advice)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, ways(t, config))
		})
	}
}

func TestSecureLeavesWhatIsTheCallers(t *testing.T) {
	clearPGEnv(t)
	t.Run("a tls.Config with its own roots stands, without the plaintext fallback", func(t *testing.T) {
		config, err := pgconn.ParseConfig("postgres://u@db.example/d")
		require.NoError(t, err)
		own := &tls.Config{ServerName: "real.example", RootCAs: x509.NewCertPool()}
		config.TLSConfig = own
		require.NoError(t, secure(config, tlsPolicy{}))
		assert.Same(t, own, config.TLSConfig)
		assert.Empty(t, config.Fallbacks)
	})
	t.Run("a verification of its own stands", func(t *testing.T) {
		config, err := pgconn.ParseConfig("postgres://u@db.example/d")
		require.NoError(t, err)
		own := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}
		config.TLSConfig = own
		require.NoError(t, secure(config, tlsPolicy{}))
		assert.Same(t, own, config.TLSConfig)

		own = &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
			return nil
		}}
		config.TLSConfig = own
		require.NoError(t, secure(config, tlsPolicy{}))
		assert.Same(t, own, config.TLSConfig)
	})
	t.Run("neither a tls.Config nor the Fallbacks slice is changed in place", func(t *testing.T) {
		config, err := pgconn.ParseConfig("postgres://u@a.example,b.example/d")
		require.NoError(t, err)
		shallow := *config
		require.NoError(t, secure(&shallow, tlsPolicy{}))
		assert.True(t, config.TLSConfig.InsecureSkipVerify)
		require.Len(t, config.Fallbacks, 3)
		assert.Nil(t, config.Fallbacks[0].TLSConfig)
		assert.True(t, config.Fallbacks[1].TLSConfig.InsecureSkipVerify)
	})
}

func TestUnixSocketsAreThoseOfPgx(t *testing.T) {
	for _, host := range []string{"/tmp", `C:\pg`, `C:\`, `A:\pg`, `Z:\pg`, `@:\pg`, `[:\pg`, `c:\pg`, `C:/pg`, `CD:\pg`,
		"C:", "", "db.example", "Db.example"} {
		network, _ := pgconn.NetworkAddress(host, 5432)
		assert.Equal(t, network == "unix", isUnixSocket(host), "%q", host)
	}
}

func TestSecureLeavesASecureConfigAsItIs(t *testing.T) {
	clearPGEnv(t)
	config, err := pgconn.ParseConfig("host=a.example,b.example user=u sslmode=verify-full")
	require.NoError(t, err)
	first := config.Fallbacks[0]
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		_ = secure(config, tlsPolicy{mode: tlsVerifyFull})
	}), "it runs at each connect")
	assert.Same(t, first, config.Fallbacks[0])
}

type addrConn struct {
	net.Conn
	addr net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.addr }

func TestPlaintextConnectionIsCheckedOnceItIsThere(t *testing.T) {
	for _, row := range []struct {
		name    string
		conn    net.Conn
		refused bool
	}{
		{"TLS, wherever it goes", tls.Client(addrConn{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}}, &tls.Config{}), false},
		{"loopback", addrConn{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}, false},
		{"IPv6 loopback", addrConn{addr: &net.TCPAddr{IP: net.IPv6loopback}}, false},
		{"Unix socket", addrConn{addr: &net.UnixAddr{Name: "/tmp/.s.PGSQL.5432"}}, false},
		{"a tunnel that has no address", addrConn{addr: &net.TCPAddr{IP: net.IPv4zero}}, false},
		{"a localhost that resolves to another machine", addrConn{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432}},
			true},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := CheckPlaintext(row.conn)
			if row.refused {
				assert.ErrorIs(t, err, ErrPlaintext)
				assert.ErrorContains(t, err, "aadpool: refusing to send an access token to 192.0.2.7:5432 in the clear")
				return
			}
			assert.NoError(t, err)
		})
	}
}

// rootCertificate makes a certificate in PEM.
func rootCertificate(t testing.TB) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
