package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An authority signs certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{t, certificate, key}
}

// sign makes a certificate with a common name and a DNS name.
func (a authority) sign(commonName, dnsName string, usage x509.ExtKeyUsage) tls.Certificate {
	return a.signUntil(time.Now().Add(time.Hour), commonName, dnsName, usage)
}

func (a authority) signUntil(end time.Time, commonName, dnsName string, usage x509.ExtKeyUsage) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: end,
		Subject: pkix.Name{CommonName: commonName}, DNSNames: []string{dnsName}, IPAddresses: []net.IP{net.IPv4(127,
			0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a authority) write(path string) {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	require.NoError(a.t, os.WriteFile(path, text, 0o600))
}

func writePair(t *testing.T, dir string, pair tls.Certificate) (certFile, keyFile string) {
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
	return certFile, keyFile
}

func TestClientsCertificates(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := writePair(t, dir, ours.sign("proxy", "proxy.example", x509.ExtKeyUsageServerAuth))
	caFile := filepath.Join(dir, "clients.crt")
	ours.write(caFile)
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	var err error
	config.Certificate, err = LoadCertificate(certFile, keyFile, caFile, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	config.Listen, config.AllowCertificates = []string{"127.0.0.1:0"}, []string{"orders.example", "nightly"}
	p, _ := startProxy(t, config)
	connect := func(shown ...tls.Certificate) error {
		to, err := pgx.ParseConfig(p.tcpDSN("sslmode=require"))
		require.NoError(t, err)
		to.TLSConfig.Certificates = shown
		conn, err := pgx.ConnectConfig(t.Context(), to)
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	}
	client := x509.ExtKeyUsageClientAuth
	for _, row := range []struct {
		name  string
		shown []tls.Certificate
		want  string
	}{
		{"by a DNS name", []tls.Certificate{ours.sign("x", "orders.example", client)}, ""},
		{"by its common name", []tls.Certificate{ours.sign("nightly", "x.example", client)}, ""},
		{"of another name", []tls.Certificate{ours.sign("x", "x.example", client)},
			"may not use this proxy (SQLSTATE 28000)"},
		{"of another authority", []tls.Certificate{others.sign("nightly", "orders.example", client)}, "tls: "},
		{"for servers", []tls.Certificate{ours.sign("nightly", "orders.example", x509.ExtKeyUsageServerAuth)},
			"tls: "},
		{"that has expired", []tls.Certificate{ours.signUntil(time.Now().Add(-time.Second), "nightly", "x.example", client)},
			"tls: expired certificate"},
		{"none", nil, "tls: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := connect(row.shown...)
			if row.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, row.want)
		})
	}
	t.Run("of an authority that is put in the place of the other", func(t *testing.T) {
		others.write(caFile + ".new")
		require.NoError(t, os.Rename(caFile+".new", caFile))
		assert.NoError(t, connect(others.sign("nightly", "x.example", client)))
		assert.ErrorContains(t, connect(ours.sign("nightly", "x.example", client)), "tls: ")
	})
	t.Run("the Unix socket asks for none", func(t *testing.T) { connectTo(t, p.socketDSN()) })
}
