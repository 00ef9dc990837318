package aadpool_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// What follows stands in for internal/azuretest in login_test.go, until it uses it itself.

type azure struct {
	azuretest.Azure
	server *aadpooltest.Server
	app    aadpooltest.Principal
}

func newAzure(t testing.TB) azure {
	a := azuretest.New(t)
	return azure{a, a.Server, a.App}
}

func (a azure) credential(t testing.TB) azcore.TokenCredential { return a.Credential(t) }
func (a azure) dsn() string                                    { return a.DSN() }

var whoami = azuretest.Whoami

var printed toPrinted

type toPrinted struct{}

func (*toPrinted) Write(p []byte) (int, error) { return azuretest.Printed.Write(p) }
func (*toPrinted) value(v any)                 { azuretest.Printed.Value(v) }

type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}
