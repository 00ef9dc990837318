package agentclient

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/paths"
	"github.com/aadpool/aadpool/internal/credential/names"
)

// absolutePath is a file's, wherever a program is started; empty: none.
func absolutePath(file string) string {
	if file == "" {
		return ""
	}
	if path, err := paths.Abs(file); err == nil {
		return path
	}
	return file
}

// tools are those that people sign in to, with the file in which each keeps who that is: in the directory that a
// variable names, or else in the home directory. They are not written to when a token is renewed.
var tools = []struct{ credential, variable, dir, file string }{
	{names.CLI, "AZURE_CONFIG_DIR", ".azure", "azureProfile.json"},
	{names.AzureDeveloperCLI, "AZD_CONFIG_DIR", ".azd", "auth.json"},
	{names.PowerShell, "", ".Azure", "AzureRmContext.json"},
}

// SignInFile is where aadpool login keeps who has signed in: in the user's configuration directory.
func SignInFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("looking for the configuration directory: %w", err)
	}
	return paths.Join(dir, "aadpool", "signin.json"), nil
}

// signedIn tells who is signed in to the tools that a credential asks, and to this program, without telling it: another
// sign-in is another identity.
func signedIn(name string) (accounts []string) {
	links := strings.Split(name, ",")
	for _, tool := range tools {
		for _, link := range links {
			if link == names.Default || link == tool.credential {
				accounts = append(accounts, tool.credential+" "+contentOf(tool.variable, tool.dir, tool.file))
			}
		}
	}
	asksSignIn := func(link string) bool {
		return link == names.Default || link == names.Browser || link == names.DeviceCode
	}
	if file, err := SignInFile(); err == nil && slices.ContainsFunc(links, asksSignIn) {
		accounts = append(accounts, "aadpool "+sumOf(file))
	}
	return accounts
}

// contentOf is a sum of what is in a tool's file.
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
		configured = paths.Join(home, dir)
	}
	return sumOf(paths.Join(configured, file))
}

// sumOf is empty if there is no file that can be read.
func sumOf(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
