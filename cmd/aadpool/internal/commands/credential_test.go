package commands_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// hostsAsked notes which hosts a credential asks.
type hostsAsked struct {
	policy.Transporter
	mu    sync.Mutex // guards hosts
	hosts []string
}

func (h *hostsAsked) Do(request *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.hosts = append(h.hosts, request.URL.Hostname())
	h.mu.Unlock()
	return h.Transporter.Do(request)
}

// In a private cloud there is no public endpoint to ask about the authority.
func TestDisableInstanceDiscovery(t *testing.T) {
	const public = "login.microsoftonline.com"
	for _, row := range []struct {
		name        string
		flags       []string
		environment map[string]string
		asked       bool
	}{
		{"by default", nil, nil, true},
		{"by the flag", []string{"--disable-instance-discovery"}, nil, false},
		{"by the environment", nil, map[string]string{"AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true"}, false},
		{"for another credential", []string{"--disable-instance-discovery", "--credential=environment"}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			commandtest.Setenv(t, row.environment)
			o := a.System()
			watched := &hostsAsked{Transporter: o.ClientOptions.Transport}
			o.ClientOptions.Transport = watched
			got := commandtest.RunUnchecked(t.Context(), o, append([]string{"token"}, row.flags...)...)
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			assert.Equal(t, row.asked, slices.Contains(watched.hosts, public))
		})
	}
}
