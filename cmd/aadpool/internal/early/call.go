//go:build linux

package early

import (
	"os"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/internal/credential/names"
)

// A call is what the command line and its variables say.
type call struct {
	agentclient.Settings
	agentDir, scope, format string
	isJSON                  bool
}

// A flag takes what is written in a plain way, and no more.
type flag struct {
	set      func(value string) (ok bool)
	isSwitch bool
}

// flags are those of aadpool token. Each has a variable of its name. Values need no look at them that decide whose
// tokens are meant: an agent of that identity has looked at its own.
func (c *call) flags() map[string]flag {
	text := func(to *string) flag {
		return flag{set: func(value string) bool { *to = value; return value != "" }}
	}
	truth := func(to *bool) flag {
		return flag{isSwitch: true, set: func(value string) bool { *to = value == "true"; return *to }}
	}
	timeout := func(value string) bool {
		timeout, err := time.ParseDuration(value)
		return err == nil && timeout >= Patience
	}
	return map[string]flag{
		"credential": text(&c.Credential), "client-id": text(&c.ClientID), "tenant-id": text(&c.TenantID),
		"login-hint": text(&c.LoginHint), "oidc-token-file": text(&c.OIDCTokenFile),
		"client-certificate": text(&c.ClientCertificate), "scope": text(&c.scope), "timeout": {set: timeout},
		"disable-instance-discovery": truth(&c.DisableInstanceDiscovery),
		"agent-dir":                  text(&c.agentDir), "format": text(&c.format), "json": truth(&c.isJSON),
	}
}

// read reads what is written in a plain way, and no more.
func read(arguments []string) (c *call, ok bool) {
	c = &call{Settings: agentclient.Settings{Credential: names.Default}}
	flags := c.flags()
	if _, completes := os.LookupEnv("COMP_LINE"); completes { // a shell asks what it could complete
		return nil, false
	}
	if !readVariables(flags) || !readArguments(flags, arguments) {
		return nil, false
	}
	if c.isJSON && c.format != "" && c.format != "json" {
		return nil, false
	}
	if c.isJSON {
		c.format = "json"
	}
	return c, true
}

func readVariables(flags map[string]flag) (ok bool) {
	for name, flag := range flags {
		if value, isSet := os.LookupEnv(variableOf(name)); isSet && !flag.set(value) {
			return false
		}
	}
	return true
}

func variableOf(flag string) string {
	return "AADPOOL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readArguments reads --name=value and --name value.
func readArguments(flags map[string]flag, arguments []string) (ok bool) {
	given := map[string]bool{}
	for len(arguments) > 0 {
		name, value, hasValue := strings.Cut(arguments[0], "=")
		arguments = arguments[1:]
		name, isFlag := strings.CutPrefix(name, "--")
		flag, isKnown := flags[name]
		if !isFlag || !isKnown || given[name] {
			return false
		}
		given[name] = true
		switch {
		case hasValue:
		case flag.isSwitch:
			value = "true"
		case len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-"):
			value, arguments = arguments[0], arguments[1:]
		}
		if !flag.set(value) {
			return false
		}
	}
	return true
}
