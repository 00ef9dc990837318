package diagnosis

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/entra"
)

// ServerFlags names the server in az commands, by the flag that the command has for it. The command itself looks up
// the resource group.
func ServerFlags(hostName, flag string) string {
	name, _, isAzure := strings.Cut(strings.ToLower(hostName), ".postgres.database.")
	unfit := func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
	if !isAzure || strings.ContainsFunc(name, unfit) {
		return `--resource-group "$RESOURCE_GROUP" ` + flag + ` "$SERVER"`
	}
	group := fmt.Sprintf(`$(az postgres flexible-server list --query "[?name=='%s'].resourceGroup" -o tsv)`, name)
	return fmt.Sprintf(`--resource-group "%s" %s %s`, group, flag, name)
}

func inDSN(role string) []string { return []string{"# in the DSN:", "user=" + ConninfoValue(role)} }

// ConninfoValue quotes a value of a DSN of keywords:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
func ConninfoValue(s string) string {
	if s != "" && !strings.ContainsAny(s, " \\'\t\r\n\v\f") {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// SetClock is how this machine's clock is set.
func SetClock() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"sudo sntp -sS time.apple.com"}
	case "windows":
		return []string{"w32tm /resync"}
	}
	return []string{"date -u", "sudo timedatectl set-ntp true"}
}

// InstallAzureCLI is how: https://learn.microsoft.com/cli/azure/install-azure-cli
func InstallAzureCLI() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"brew install azure-cli"}
	case "windows":
		return []string{"winget install --exact --id Microsoft.AzureCLI"}
	}
	return []string{"# Debian and Ubuntu; others: https://aka.ms/azure-cli",
		"curl -sL https://aka.ms/InstallAzureCLIDeb | sudo bash"}
}

// clientID is the application's, if the environment says so in a form that is fit for a command line.
func clientID() string {
	if id := os.Getenv("AZURE_CLIENT_ID"); entra.IsUUID(id) {
		return id
	}
	return `"$AZURE_CLIENT_ID"`
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return `"$VM"`
	}
	return shell.Quote(name)
}
