package aadpooltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Stand-ins of containers: they listen on all addresses, clients know them by a name, and trust one authority.
func TestStandInsByName(t *testing.T) {
	ca, err := NewCertificateAuthority()
	require.NoError(t, err)
	a, err := NewAuthority(WithAddress("0.0.0.0:0"), WithMachineAddress("0.0.0.0:0"), WithHosts("entra.test", "192.0.2.1"),
		WithCertificateAuthority(ca))
	require.NoError(t, err)
	t.Cleanup(a.Close)
	s, err := NewServer(a, sharedPostgres(t), WithAddress("0.0.0.0:0"), WithHosts("orders.postgres.test"),
		WithCertificateAuthority(ca))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	assert.Equal(t, ca.CertificatePEM(), a.CertificatePEM())
	assert.Equal(t, ca.CertificatePEM(), s.CertificatePEM())
	assert.Regexp(t, `^https://entra\.test:\d+/$`, a.URL())
	p := a.Register(Principal{Name: "by-name"})
	assert.Equal(t, a.URL(), a.ClientSecretEnv(p)["AZURE_AUTHORITY_HOST"])
	assert.Contains(t, a.AppServiceEnv(p)["IDENTITY_ENDPOINT"], "http://entra.test:")
	assert.Equal(t, "127.0.0.1,localhost,entra.test,192.0.2.1", a.ProxyEnv()["NO_PROXY"])

	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), p.ClientID, p.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true})
	require.NoError(t, err)
	token, err := cred.GetToken(t.Context(), postgresToken)
	require.NoError(t, err)

	dsn := s.DSN(p.Name)
	assert.Contains(t, dsn, "@orders.postgres.test:")
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.Password, config.LookupFunc = token.Token, func(context.Context, string) ([]string, error) {
		return []string{"127.0.0.1"}, nil
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca.CertificatePEM()))
	u, err := url.Parse(a.URL())
	require.NoError(t, err)
	for _, name := range []string{"entra.test", "192.0.2.1", "localhost", "127.0.0.1"} {
		dialed, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", u.Port()), &tls.Config{RootCAs: pool, ServerName: name})
		require.NoError(t, err, name)
		require.NoError(t, dialed.Close())
	}
}

func TestCertificateAuthorityThatIsGiven(t *testing.T) {
	made, err := NewCertificateAuthority()
	require.NoError(t, err)
	key, err := privateKeyPEM(made.certificate)
	require.NoError(t, err)
	read, err := ParseCertificateAuthority(made.CertificatePEM(), key)
	require.NoError(t, err)
	assert.Equal(t, made.CertificatePEM(), read.CertificatePEM())
	leaf, err := newServerCertificate()
	require.NoError(t, err)
	leafKey, err := privateKeyPEM(leaf)
	require.NoError(t, err)
	for _, row := range []struct {
		name             string
		certificate, key []byte
		want             string
	}{
		{"no certificate", nil, key, "read a certificate authority"},
		{"another's key", made.CertificatePEM(), leafKey, "private key does not match public key"},
		{"a server's certificate", certificatePEM(leaf), leafKey, "not one that signs others"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ParseCertificateAuthority(row.certificate, row.key)
			require.ErrorContains(t, err, row.want)
			assert.False(t, strings.Contains(err.Error(), "PRIVATE"))
		})
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	taken := WithAddress(l.Addr().String())
	_, err = NewAuthority(taken)
	require.ErrorContains(t, err, "address already in use")
	_, err = NewAuthority(WithMachineAddress(l.Addr().String()))
	require.ErrorContains(t, err, "address already in use")
	_, err = NewServer(newAuthority(t), sharedPostgres(t), taken)
	require.ErrorContains(t, err, "address already in use")
}
