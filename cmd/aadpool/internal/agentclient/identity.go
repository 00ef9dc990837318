package agentclient

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/paths"
)

// Settings are what the command line and its variables say about whose tokens are meant.
type Settings struct {
	Credential, ClientID, TenantID, LoginHint string
	OIDCTokenFile, ClientCertificate          string
	DisableInstanceDiscovery                  bool
}

// Identity names whose tokens are meant, by the settings, by what azidentity reads of the environment, and by who is
// signed in. Secrets do not go into it, but whether there are any.
func (s Settings) Identity() string {
	settings := []string{s.Credential, s.ClientID, s.TenantID, s.LoginHint, absolutePath(s.OIDCTokenFile),
		absolutePath(s.ClientCertificate), strconv.FormatBool(s.DisableInstanceDiscovery)}
	return identityOf(append(settings, signedIn(s.Credential)...)...)
}

// Socket is the path of an identity's socket in a directory.
func Socket(dir, identity string) string { return paths.Join(dir, "token-"+identity+".sock") }

// identityOf is a name for what the settings and the environment say.
func identityOf(settings ...string) string {
	sum := sha256.New()
	for _, s := range append(slices.Clone(settings), environment()...) {
		fmt.Fprintf(sum, "%q\n", s)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// environment is what decides which credential azidentity takes, and whom that is for, sorted.
func environment() (variables []string) {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !decides(name):
		case isSecret(name):
			variables = append(variables, name)
		default:
			variables = append(variables, name+"="+absolute(name, value))
		}
	}
	slices.Sort(variables)
	return variables
}

// decides reports whether a variable says whose tokens are meant: those that azidentity reads, those of platforms that
// vouch for a job, and where the tools that people sign in to keep whom.
func decides(name string) bool {
	for _, prefix := range []string{"AZURE_", "AZURESUBSCRIPTION_", "IDENTITY_", "MSI_", "IMDS_", "DEFAULT_IDENTITY_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"SYSTEM_OIDCREQUESTURI", "ACTIONS_ID_TOKEN_REQUEST_URL", "AZD_CONFIG_DIR", "HOME",
		"USERPROFILE"}, name)
}

// absolute is a variable's value, in the place of a path that means another file in another directory.
func absolute(name, value string) string {
	isPath := strings.HasSuffix(name, "_PATH") || strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_DIR")
	if value != "" && isPath {
		return absolutePath(value)
	}
	return value
}

func isSecret(name string) bool {
	for _, word := range []string{"SECRET", "PASSWORD", "HEADER"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
