package commandtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
)

// NewLaptop is Azure with a person, Ada, at a laptop that has a browser and a keyring.
func NewLaptop(t *testing.T) (Azure, aadpooltest.Principal) {
	t.Helper()
	a := New(t)
	ada := a.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@example.com"})
	require.NoError(t, a.InstallBrowser(ada, a.Bin))
	Setenv(t, map[string]string{"DISPLAY": ":0", "AZURE_AUTHORITY_HOST": a.URL(),
		"AZURE_TENANT_ID": a.TenantID()})
	if _, err := signin.Keyring(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _, _ = signin.Forget() })
	return a, ada
}
