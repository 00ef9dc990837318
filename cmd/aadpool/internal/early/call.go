//go:build linux

package early

import (
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/internal/credential/names"
)

// A call is what the command line and its variables say.
type call struct {
	agentclient.Settings
	agentDir, scope, format, timeout string
	isJSON, disablesDiscovery        string // "true", or nothing
}

// flags are those of aadpool token. Each has a variable of its name.
func (c *call) flags() map[string]*string {
	return map[string]*string{
		"credential": &c.Credential, "client-id": &c.ClientID, "tenant-id": &c.TenantID, "login-hint": &c.LoginHint,
		"oidc-token-file": &c.OIDCTokenFile, "client-certificate": &c.ClientCertificate, "scope": &c.scope,
		"timeout": &c.timeout, "agent-dir": &c.agentDir, "format": &c.format,
		"json": &c.isJSON, "disable-instance-discovery": &c.disablesDiscovery,
	}
}

// read reads what is written in a plain way, and no more. Values need no look at them that decide whose tokens are
// meant: an agent of that identity has looked at its own.
func read(arguments, environment []string) (c *call, ok bool) {
	c = &call{Settings: agentclient.Settings{Credential: names.Default}, timeout: patience.String()}
	flags := c.flags()
	if !readVariables(flags, environment) || !readArguments(flags, arguments) {
		return nil, false
	}
	timeout, err := time.ParseDuration(c.timeout)
	switch {
	case err != nil || timeout < patience:
		return nil, false
	case !isTrueOrUnset(c.isJSON) || !isTrueOrUnset(c.disablesDiscovery):
		return nil, false
	case c.isJSON != "" && c.format != "" && c.format != "json":
		return nil, false
	case c.isJSON != "":
		c.format = "json"
	}
	c.DisableInstanceDiscovery = c.disablesDiscovery != ""
	return c, true
}

func isTrueOrUnset(value string) bool { return value == "" || value == "true" }

func readVariables(flags map[string]*string, environment []string) (ok bool) {
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		if name == "COMP_LINE" { // a shell asks what it could complete
			return false
		}
		name, isOurs := strings.CutPrefix(name, "AADPOOL_")
		if !isOurs {
			continue
		}
		flag, isKnown := flags[strings.ReplaceAll(strings.ToLower(name), "_", "-")]
		if !isKnown { // another command's
			continue
		}
		if value == "" {
			return false
		}
		*flag = value
	}
	return true
}

// readArguments reads --name=value and --name value.
func readArguments(flags map[string]*string, arguments []string) (ok bool) {
	given := map[string]bool{}
	for len(arguments) > 0 {
		name, value, hasValue := strings.Cut(arguments[0], "=")
		arguments = arguments[1:]
		name, isFlag := strings.CutPrefix(name, "--")
		switch {
		case hasValue:
		case name == "json" || name == "disable-instance-discovery":
			value = "true"
		case len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-"):
			value, arguments = arguments[0], arguments[1:]
		}
		flag, isKnown := flags[name]
		if !isFlag || !isKnown || value == "" || given[name] {
			return false
		}
		*flag, given[name] = value, true
	}
	return true
}
