package azuretest

import "github.com/aadpool/aadpool/aadpooltest"

// LoginPhases are the phases of a login at which a fault can be set, with their names.
var LoginPhases = []struct {
	aadpooltest.Phase
	Name string
}{
	{aadpooltest.PhaseAccept, "accept"},
	{aadpooltest.PhaseSSLRequest, "SSLRequest"},
	{aadpooltest.PhaseTLS, "TLS"},
	{aadpooltest.PhaseStartup, "startup"},
	{aadpooltest.PhasePassword, "password"},
}
