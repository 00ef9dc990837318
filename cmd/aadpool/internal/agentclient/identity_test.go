package agentclient

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestIdentity(t *testing.T) {
	for _, row := range []struct {
		name              string
		before, after     map[string]string
		settings, changed []string
		same              bool
	}{
		{name: "the same", before: map[string]string{"AZURE_CLIENT_ID": "a"},
			after: map[string]string{"AZURE_CLIENT_ID": "a"}, same: true},
		{name: "another client", before: map[string]string{"AZURE_CLIENT_ID": "a"},
			after: map[string]string{"AZURE_CLIENT_ID": "b"}},
		{name: "another authority", after: map[string]string{"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"}},
		{name: "a secret where there was none", after: map[string]string{"AZURE_CLIENT_SECRET": "x"}},
		{name: "another secret", before: map[string]string{"AZURE_CLIENT_SECRET": "x"},
			after: map[string]string{"AZURE_CLIENT_SECRET": "y"}, same: true},
		{name: "another machine's identity", after: map[string]string{"IDENTITY_ENDPOINT": "http://x"}},
		{name: "another identity of an Azure Machine Learning compute",
			before: map[string]string{"DEFAULT_IDENTITY_CLIENT_ID": "a"},
			after:  map[string]string{"DEFAULT_IDENTITY_CLIENT_ID": "b"}},
		{name: "another service connection of Azure Pipelines", before: map[string]string{"AZURESUBSCRIPTION_CLIENT_ID": "a"},
			after: map[string]string{"AZURESUBSCRIPTION_CLIENT_ID": "b"}},
		{name: "another job of GitHub Actions", after: map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"}},
		{name: "another directory of azd's", after: map[string]string{"AZD_CONFIG_DIR": "/x"}},
		{name: "another home", after: map[string]string{"HOME": "/x"}},
		{name: "what azidentity does not read", after: map[string]string{"PGHOST": "x"}, same: true},
		{name: "another flag", settings: []string{"cli"}, changed: []string{"azd"}},
		{name: "flags that would join to the same", settings: []string{"a", "b"}, changed: []string{"ab", ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			set := func(variables map[string]string) {
				azuretest.Unsetenv(t, "AZURE_", "AZURESUBSCRIPTION_", "IDENTITY_", "MSI_", "IMDS_", "ACTIONS_", "AZD_",
					"DEFAULT_IDENTITY_")
				for name, value := range variables {
					t.Setenv(name, value)
				}
			}
			set(row.before)
			before := identityOf(row.settings...)
			set(row.after)
			changed := row.changed
			if changed == nil {
				changed = row.settings
			}
			assert.Equal(t, row.same, before == identityOf(changed...))
		})
	}
}

func TestIdentityHasThePathsOfFiles(t *testing.T) {
	azuretest.Unsetenv(t, "AZURE_")
	t.Setenv("AZURE_CLIENT_CERTIFICATE_PATH", "certificate.pem")
	before, path := identityOf(), absolutePath("certificate.pem")
	t.Chdir(t.TempDir())
	assert.NotEqual(t, before, identityOf())
	assert.NotEqual(t, path, absolutePath("certificate.pem"))
	assert.Empty(t, absolutePath(""))
}

// Who signs in to a tool anew gets no token of whoever was signed in when the agent was started.
func TestSignedIn(t *testing.T) {
	azuretest.Unsetenv(t, "AZURE_", "AZD_")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AZURE_CONFIG_DIR", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, row := range []struct {
		name, credential, dir, file string
		same                        bool
	}{
		{"az", "cli", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"azd", "azd", filepath.Join(os.Getenv("HOME"), ".azd"), "auth.json", false},
		{"Azure PowerShell", "powershell", filepath.Join(os.Getenv("HOME"), ".Azure"), "AzureRmContext.json", false},
		{"the default credential", "default", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"a chain", "managed-identity,cli", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"the default credential", "default", filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "aadpool"), "signin.json", false},
		{"aadpool login", "browser", filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "aadpool"), "signin.json", false},
		{"a credential that asks no tool", "environment", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(row.dir, row.file)
			require.NoError(t, os.MkdirAll(row.dir, 0o700))
			require.NoError(t, os.WriteFile(path, []byte(`{"user": "ada"}`), 0o600))
			t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
			before := identityOf(signedIn(row.credential)...)
			require.NoError(t, os.WriteFile(path, []byte(`{"user": "bob"}`), 0o600))
			assert.Equal(t, row.same, before == identityOf(signedIn(row.credential)...))
		})
	}
}

// A variable that a new azidentity reads is to make another identity, or to be listed here: else two identities would
// have one agent.
func TestVariablesOfCredentialsDecide(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
		"github.com/AzureAD/microsoft-authentication-library-for-go").Output()
	require.NoError(t, err)
	doNotDecide := []string{"REGION_NAME", "MSAL_FORCE_REGION", // which of Entra's regions is asked
		"SYSTEM_ACCESSTOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} // the job's secrets, whose job others name
	var found []string
	for _, dir := range append(strings.Fields(string(out)), "../../../../internal/credential") {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, match := range regexp.MustCompile(`"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"`).FindAllSubmatch(content, -1) {
				found = append(found, string(match[1]))
			}
			return err
		}))
	}
	for _, name := range found {
		assert.True(t, decides(name) || slices.Contains(doNotDecide, name), name)
	}
	assert.Subset(t, found, append(doNotDecide, "AZURE_CLIENT_ID", "IDENTITY_ENDPOINT", "MSI_ENDPOINT"))
}
