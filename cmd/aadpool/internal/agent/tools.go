package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"github.com/aadpool/aadpool/internal/credential"
)

// Path is a file's, wherever a program is started; empty: none.
func Path(file string) string {
	if file == "" {
		return ""
	}
	if path, err := filepath.Abs(file); err == nil {
		return path
	}
	return file
}

// tools are those that people sign in to, with the file in which each keeps who that is: in the directory that a
// variable names, or else in the home directory. They are not written to when a token is renewed.
var tools = []struct{ credential, variable, dir, file string }{
	{credential.CLI, "AZURE_CONFIG_DIR", ".azure", "azureProfile.json"},
	{credential.AzureDeveloperCLI, "AZD_CONFIG_DIR", ".azd", "auth.json"},
	{credential.PowerShell, "", ".Azure", "AzureRmContext.json"},
}

// SignedIn tells who is signed in to the tools that a credential asks, without telling it: another sign-in is another
// identity.
func SignedIn(name string) (accounts []string) {
	for _, tool := range tools {
		links := strings.Split(name, ",")
		for _, link := range links {
			if link == credential.Default || link == tool.credential {
				accounts = append(accounts, tool.credential+" "+contentOf(tool.variable, tool.dir, tool.file))
			}
		}
	}
	return accounts
}

// contentOf is a sum of what is in a tool's file; empty if there is none that can be read.
func contentOf(variable, dir, file string) string {
	configured := ""
	if variable != "" {
		configured = os.Getenv(variable)
	}
	if configured == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		configured = filepath.Join(home, dir)
	}
	content, err := os.ReadFile(filepath.Join(configured, file))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
