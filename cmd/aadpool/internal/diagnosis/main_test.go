package diagnosis

import (
	"testing"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// clearEnvironment takes the machine's own settings of Azure and proxies out of the environment.
func clearEnvironment(t *testing.T) {
	azuretest.Unsetenv(t, "AZURE_", "IDENTITY_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
		"no_proxy", "REQUEST_METHOD")
}
