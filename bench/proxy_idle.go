package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/internal/freeport"
)

const (
	idleSessions = 1000
	idleFor      = 10 * time.Second // until the memory is looked at
)

// measureIdleSessions has 1,000 clients connect at once to a proxy that has just started, and leaves them alone. The
// server takes no 1,000 sessions, so the proxy's is a PgBouncer, over TLS.
func (b *bench) measureIdleSessions(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "aadpool-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := b.buildProxy(ctx, dir); err != nil {
		return err
	}
	dsn, stop, err := b.openTLSPgBouncer(ctx, dir)
	if err != nil || dsn == "" {
		return err
	}
	defer stop()
	health, err := freeport.Address()
	if err != nil {
		return err
	}
	w, stopProxy, err := runProxy(ctx, dir, "", filepath.Join(dir, "idle"), dsn, "--http="+health)
	if err != nil {
		return err
	}
	defer stopProxy()
	figures, err := w.holdIdle(ctx, "http://"+health+"/metrics")
	if err != nil {
		return err
	}
	calls, err := os.ReadFile(filepath.Join(dir, callsFile))
	if err != nil {
		return err
	}
	b.reportIdleSessions(figures, bytes.Count(calls, []byte("\n")))
	return nil
}

func (b *bench) reportIdleSessions(f idleFigures, tokenRequests int) {
	b.add(section{
		Title: "aadpool proxy: idle sessions",
		Text: fmt.Sprintf("%d clients at once, to a proxy that has just started and whose credential keeps no token; then "+
			"they do nothing. "+
			"The server is a PgBouncer, over TLS. Memory is the process's, as the operating system counts it.", idleSessions),
		Table: [][]string{
			{"", ""},
			{"until all were in, s", fmt.Sprintf("%.1f", f.took.Seconds())},
			{"token requests", fmt.Sprint(tokenRequests)},
			{"memory per session, kB", fmt.Sprintf("%.1f", f.bytes/1000)},
			{"goroutines per session", fmt.Sprintf("%.1f", f.goroutines)},
		},
	})
	b.report.verdicts = append(b.report.verdicts,
		verdict{fmt.Sprintf("proxy: token requests for %d sessions at once: 1", idleSessions), fmt.Sprint(tokenRequests),
			tokenRequests == 1},
		verdict{"proxy: memory of an idle session: at most 40 kB", fmt.Sprintf("%.1f kB", f.bytes/1000), f.bytes <= 40_000})
}

// idleFigures are per session, but for took.
type idleFigures struct {
	took              time.Duration
	bytes, goroutines float64
}

// holdIdle opens the sessions, and compares the proxy's own figures before and after.
func (w *way) holdIdle(ctx context.Context, metrics string) (f idleFigures, err error) {
	before, err := scrape(ctx, metrics)
	if err != nil {
		return f, err
	}
	conns := make([]*pgx.Conn, idleSessions)
	errs := make([]error, idleSessions)
	var connecting sync.WaitGroup
	start := time.Now()
	for i := range conns {
		connecting.Go(func() {
			conns[i], errs[i] = pgx.Connect(ctx, w.dsn()+" connect_timeout=60")
		})
	}
	connecting.Wait()
	f.took = time.Since(start)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	if err := errors.Join(errs...); err != nil {
		return f, err
	}
	select { // what the logins have left behind is given back
	case <-ctx.Done():
	case <-time.After(idleFor):
	}
	after, err := scrape(ctx, metrics)
	f.bytes = (after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]) / idleSessions
	f.goroutines = (after["go_goroutines"] - before["go_goroutines"]) / idleSessions
	return f, err
}

// scrape reads the metrics that have no labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			values[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return values, nil
}

const tlsBouncerConfig = `[databases]
postgres = host=%[1]s port=%[2]d dbname=postgres user=%[3]s password='%[4]s'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[5]s
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1100
server_tls_sslmode = verify-full
server_tls_ca_file = %[6]s
client_tls_sslmode = require
client_tls_cert_file = %[7]s/bouncer.crt
client_tls_key_file = %[7]s/bouncer.key
logfile = %[7]s/pgbouncer.log
`

// openTLSPgBouncer runs a PgBouncer that is reached over TLS. Its DSN is empty if there is none.
func (b *bench) openTLSPgBouncer(ctx context.Context, dir string) (dsn string, stop func(), err error) {
	binary, err := findPgBouncer()
	if err != nil {
		return "", nil, nil
	}
	server, err := pgx.ParseConfig(b.db.dsn)
	if err != nil {
		return "", nil, err
	}
	address, err := freeport.Address()
	if err != nil {
		return "", nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	home := filepath.Join(dir, "tls-pgbouncer")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o755), writeCertificate(home)); err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf(tlsBouncerConfig, server.Host, server.Port, role, b.db.token.Token, port, b.db.rootCertificate(),
		home)
	if err := os.WriteFile(filepath.Join(home, "pgbouncer.ini"), []byte(text), 0o644); err != nil {
		return "", nil, err
	}
	_, stop, err = startPgBouncer(binary, home)
	if err != nil {
		return "", nil, err
	}
	dsn = fmt.Sprintf("postgres://%s@%s/postgres?sslmode=verify-full&sslrootcert=%s/bouncer.crt", role, address, home)
	return dsn, stop, await(ctx, "tcp", address)
}

// writeCertificate makes a certificate for 127.0.0.1.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(24 * time.Hour),
		IsCA:     true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bouncer.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			0o644),
		os.WriteFile(filepath.Join(dir, "bouncer.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
			0o644))
}
