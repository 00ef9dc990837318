package proxy

import (
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/require"
)

// fixedCredential always has the same token.
type fixedCredential azcore.AccessToken

func (c fixedCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken(c), nil
}

// countingCredential keeps nothing, as the Azure CLI's does.
type countingCredential struct {
	token azcore.AccessToken
	takes time.Duration
	calls atomic.Int64
}

func (c *countingCredential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.calls.Add(1)
	select {
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	case <-time.After(c.takes):
	}
	return azcore.AccessToken{Token: strings.Clone(c.token.Token), ExpiresOn: c.token.ExpiresOn}, nil
}

func testPassword(t testing.TB, text string) *Password {
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	password, err := ReadPassword(path)
	require.NoError(t, err)
	return password
}

// testCertificate makes a certificate for 127.0.0.1, and a file that a client can trust it by.
func testCertificate(t testing.TB) (certificate tls.Certificate, root string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	root = filepath.Join(t.TempDir(), "root.crt")
	require.NoError(t, os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, root
}

// fixed is a certificate that comes of no file.
func fixed(certificate tls.Certificate) *Certificate { return &Certificate{loaded: &certificate} }

func inAnHour() time.Time { return time.Now().Add(time.Hour) }
