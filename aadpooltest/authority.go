package aadpooltest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/aadpool/aadpool/internal/signingkey"
)

// defaultTokenLife is in the middle of what Entra gives, 60 to 90 minutes at random:
// https://learn.microsoft.com/entra/identity-platform/access-tokens#token-lifetime
const defaultTokenLife = 75 * time.Minute

// Two addresses that azidentity asks whatever its options say. The transport of [Authority.ClientOptions] brings them
// here.
const (
	// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
	imdsAddress              = "169.254.169.254:80"
	instanceDiscoveryHost    = "login.microsoftonline.com" // asked which hosts belong to a cloud that it does not know
	instanceDiscoveryAddress = instanceDiscoveryHost + ":443"
)

// Authority is a local stand-in for Microsoft Entra ID, and for the places of an Azure machine that give out its
// tokens: unmodified azidentity credentials get signed access tokens from it. Make one with [NewAuthority].
//
// All methods are safe for concurrent use. The settings can be changed while it serves, and hold for the answers given
// from then on.
type Authority struct {
	tenantID       string
	subscriptionID string
	key            *rsa.PrivateKey
	keyID          string
	listening      listening
	root           tls.Certificate // that clients trust
	certPool       *x509.CertPool

	entra   *httptest.Server // Entra's own endpoints, by HTTPS
	machine *httptest.Server // what a machine or a container asks without TLS: IMDS, App Service, the stand-in az
	client  *http.Client     // what ClientOptions gives to credentials

	closing context.Context // ends when Close is called
	cancel  context.CancelFunc

	entraPort, machinePort atomic.Int32 // by which clients reach it, if not by its own

	requests atomic.Int64
	tunnels  sync.WaitGroup // of ProxyEnv

	mu             sync.Mutex // guards everything below
	principals     []Principal
	changes        int                  // of principals, so far
	servers        map[*Server]struct{} // to be told of changes
	revoked        map[string]bool      // by principal name
	systemAssigned string               // principal name
	machineSecrets map[string]string    // identity header, or path of the stand-in az: to principal name
	tokenLife      time.Duration
	tokenAge       time.Duration
	refreshIn      time.Duration
	latency        time.Duration
	failure        Failure
	signIns        signIns
}

// NewAuthority starts an authority of a new tenant, on a free port of 127.0.0.1 unless an option says otherwise. Its
// certificate and its signing key exist in memory only. The caller ends it with [Authority.Close].
func NewAuthority(options ...ListenOption) (*Authority, error) {
	listening := listeningAs(options)
	key, err := signingkey.New()
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: make a signing key: %w", err)
	}
	certificate, err := listening.certificate(instanceDiscoveryHost)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: %w", err)
	}
	a := &Authority{
		tenantID: newUUID(), subscriptionID: newUUID(), key: key, keyID: randomID(20),
		listening:      listening,
		root:           listening.roots(certificate),
		certPool:       rootsOf(listening.roots(certificate)),
		revoked:        map[string]bool{},
		servers:        map[*Server]struct{}{},
		machineSecrets: map[string]string{},
		tokenLife:      defaultTokenLife,
		signIns:        newSignIns(),
	}
	if a.entra, err = newHTTPServer(listening.address, a.entraHandler()); err != nil {
		return nil, err
	}
	if a.machine, err = newHTTPServer(listening.machineAddress, a.machineHandler()); err != nil {
		_ = a.entra.Listener.Close() // nothing is served yet
		return nil, err
	}
	a.closing, a.cancel = context.WithCancel(context.Background())
	a.client = &http.Client{Transport: &http.Transport{
		DialContext:     a.dial,
		TLSClientConfig: &tls.Config{RootCAs: a.certPool, MinVersion: tls.VersionTLS12},
	}}
	a.entra.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	a.entra.StartTLS()
	a.machine.Start()
	return a, nil
}

// newHTTPServer returns a server that listens but does not serve yet. (httptest.NewUnstartedServer panics where it
// cannot listen.)
func newHTTPServer(address string, handler http.Handler) (*httptest.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: start an authority: %w", err)
	}
	return &httptest.Server{
		Listener: listener,
		// A client that goes away, or that does not trust the certificate, is the test's business, not standard error's.
		Config: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute},
	}, nil
}

// Close ends the authority. It returns when every request has ended, those that hang included: their clients see the
// connection cut. Calling it again does nothing.
func (a *Authority) Close() {
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	a.client.CloseIdleConnections()
	a.tunnels.Wait()
	a.entra.Close()
	a.machine.Close()
}

// String names the authority by its URL: its keys and its principals' secrets are not for printing.
func (a *Authority) String() string { return "aadpooltest.Authority(" + a.URL() + ")" }

// GoString is String.
func (a *Authority) GoString() string { return a.String() }

// URL returns the authority host, "https://127.0.0.1:port/" by default: what AZURE_AUTHORITY_HOST holds.
func (a *Authority) URL() string { return "https://" + a.entraAddress() + "/" }

// entraAddress and machineAddress are host and port, as clients know them.
func (a *Authority) entraAddress() string {
	return a.listening.public(a.entra.Listener, &a.entraPort)
}

func (a *Authority) machineAddress() string {
	return a.listening.public(a.machine.Listener, &a.machinePort)
}

// SetPublicPorts tells by which ports clients reach the authority from now on, where these are mapped to its own, as a
// container's are: its URLs have them. 0 is the port that it listens on. machine is that of [WithMachineAddress].
func (a *Authority) SetPublicPorts(entra, machine int) {
	a.entraPort.Store(int32(entra))
	a.machinePort.Store(int32(machine))
}

func (a *Authority) machineURL() string { return "http://" + a.machineAddress() }

// TenantID returns the ID of the one tenant that the authority has.
func (a *Authority) TenantID() string { return a.tenantID }

// CertPool returns the roots that a client of [Authority.URL] has to trust.
func (a *Authority) CertPool() *x509.CertPool { return a.certPool.Clone() }

// CertificatePEM returns the certificate that a client of [Authority.URL] has to trust, for programs that want a file:
// SSL_CERT_FILE, REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS and others name one. See also [Authority.TrustEnv].
func (a *Authority) CertificatePEM() []byte { return certificatePEM(a.root) }

func (a *Authority) addServer(s *Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.servers[s] = struct{}{}
}

func (a *Authority) removeServer(s *Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.servers, s)
}

// ClientOptions returns what to put into the ClientOptions of any azidentity credential. Its transport trusts the
// authority, brings requests for IMDS (http://169.254.169.254) and for Entra's instance discovery to it, and refuses
// every other address, so that a test cannot ask the real Entra by mistake. Retries are azcore's: set Retry.MaxRetries
// to -1 in a test of failures that must be quick.
func (a *Authority) ClientOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: a.URL()},
		Transport: a.client,
	}
}

func (a *Authority) dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch address {
	case a.entraAddress(), instanceDiscoveryAddress:
		address = local(a.entra.Listener)
	case a.machineAddress(), imdsAddress:
		address = local(a.machine.Listener)
	default:
		return nil, fmt.Errorf("aadpooltest: a credential asked %s: "+
			"the transport of Authority.ClientOptions reaches the authority alone", address)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

// SetTokenLife sets how long a token is valid from when it was issued, in whole seconds. Default: 75 minutes.
// azidentity does not cache a token that has less than five minutes left.
func (a *Authority) SetTokenLife(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokenLife = d
}

// SetTokenAge makes the tokens given out from now on already this old: issued d ago, and valid for the token life less
// d. So does a credential whose own cache held its token. Default: 0.
func (a *Authority) SetTokenAge(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokenAge = d
}

// SetRefreshIn makes token answers say, in refresh_in, after how many seconds the client should ask for the next one.
// It becomes the RefreshOn of azcore's AccessToken. Default: 0, which leaves it out.
func (a *Authority) SetRefreshIn(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refreshIn = d
}

// SetLatency makes every token answer, failures too, wait for d, or until its client goes away. Default: 0.
func (a *Authority) SetLatency(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.latency = d
}

// SetFailure makes every token request fail in one way, until it is called with the zero Failure.
func (a *Authority) SetFailure(f Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure = f
}

// Requests returns how many token requests have arrived so far at any of the endpoints, those that failed included.
// Discovery and the probe that DefaultAzureCredential sends to IMDS are not counted.
func (a *Authority) Requests() int { return int(a.requests.Load()) }

// randomID returns n random bytes in the alphabet of Entra's opaque identifiers.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}
