package server

import (
	"os"
	"strings"

	"github.com/aadpool/aadpool/internal/entra"
)

// chain is the order in which DefaultAzureCredential asks:
// https://learn.microsoft.com/azure/developer/go/sdk/authentication/credential-chains
var chain = []string{"EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential",
	"AzureCLICredential", "AzureDeveloperCLICredential", "AzurePowerShellCredential"}

// Answered names the credential of the default chain that gave the token. It is empty where there is no chain.
func (w *WatchedCredential) Answered() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, message := range w.logged {
		if _, name, ok := strings.Cut(message, "DefaultAzureCredential authenticated with "); ok {
			return name
		}
	}
	return ""
}

// Others says why the credentials of the chain before the one that answered gave no token, and which were not asked.
func (w *WatchedCredential) Others(answered string) []entra.Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	reasons := map[string]string{}
	for _, message := range w.logged {
		if _, list, ok := strings.Cut(message, "failed to initialize some credentials:"); ok {
			for _, a := range entra.Attempts(list) {
				reasons[a.Name] = a.Reason
			}
		}
	}
	if answer := w.metadata.Answer(); answer != "" && reasons["ManagedIdentityCredential"] == "" {
		reasons["ManagedIdentityCredential"] = answer
	}
	return explainOthers(answered, reasons)
}

func explainOthers(answered string, reasons map[string]string) []entra.Attempt {
	var attempts []entra.Attempt
	var unasked []string
	reached := false
	narrowed := os.Getenv("AZURE_TOKEN_CREDENTIALS")
	for _, name := range chain {
		reason := reasons[name]
		switch {
		case name == answered:
			reached = true
			continue
		case reason == "" && narrowed != "":
			continue // it is not in the chain
		case reached:
			unasked = append(unasked, name)
			continue
		case reason == "":
			reason = "no token (--credential tells why)"
		}
		attempts = append(attempts, entra.Attempt{Name: name, Reason: reason})
	}
	if len(unasked) > 0 {
		attempts = append(attempts, entra.Attempt{Name: strings.Join(unasked, ", "), Reason: "not asked"})
	}
	if narrowed != "" {
		attempts = append(attempts, entra.Attempt{Name: "AZURE_TOKEN_CREDENTIALS", Reason: "narrows the chain to " +
			narrowed})
	}
	return attempts
}
