package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// chain is the order in which DefaultAzureCredential asks:
// https://learn.microsoft.com/azure/developer/go/sdk/authentication/credential-chains
var chain = []string{"EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential",
	"AzureCLICredential", "AzureDeveloperCLICredential", "AzurePowerShellCredential"}

// An attempt is what came of asking one credential.
type attempt struct{ name, reason string }

func (a attempt) String() string { return a.name + ": " + a.reason }

// answered names the credential of the default chain that gave the token. It is empty where there is no chain.
func (w *watchedCredential) answered() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, message := range w.logged {
		if _, name, ok := strings.Cut(message, "DefaultAzureCredential authenticated with "); ok {
			return name
		}
	}
	return ""
}

// others says why the credentials of the chain before the one that answered gave no token, and which were not asked.
func (w *watchedCredential) others(answered string) []attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	reasons := map[string]string{}
	for _, message := range w.logged {
		if _, list, ok := strings.Cut(message, "failed to initialize some credentials:"); ok {
			for _, a := range parseAttempts(list) {
				reasons[a.name] = a.reason
			}
		}
	}
	if w.machine != "" && reasons["ManagedIdentityCredential"] == "" {
		reasons["ManagedIdentityCredential"] = w.machine
	}
	return explainOthers(answered, reasons)
}

func explainOthers(answered string, reasons map[string]string) []attempt {
	var attempts []attempt
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
		attempts = append(attempts, attempt{name, reason})
	}
	if len(unasked) > 0 {
		attempts = append(attempts, attempt{strings.Join(unasked, ", "), "not asked"})
	}
	if narrowed != "" {
		attempts = append(attempts, attempt{"AZURE_TOKEN_CREDENTIALS", "narrows the chain to " + narrowed})
	}
	return attempts
}

var (
	attemptName = regexp.MustCompile(`^(\w+Credential)(?::| authentication failed\.)?\s*`)

	entraError = regexp.MustCompile(`(AADSTS\d+: .*?)(?: Trace ID:|\\r|\\n|"|$)`)
	advertised = regexp.MustCompile(`\.?\s*(?:To troubleshoot, visit|See) https://aka\.ms/\S+( for more information)?\.?`)
	ruler      = regexp.MustCompile(`-{20,}`)
)

// maxReason keeps the answer of a proxy, a page of HTML for example, from filling the screen.
const maxReason = 400

// parseAttempts takes the error of a chain apart: a line for each credential that was asked.
func parseAttempts(text string) []attempt {
	if _, list, ok := strings.Cut(text, "Attempted credentials:"); ok {
		text = list
	}
	var attempts []attempt
	// What belongs to one credential is indented by two tabs.
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "\n\t\t", " "), "\n\t") {
		if name := attemptName.FindStringSubmatch(part); name != nil {
			attempts = append(attempts, attempt{name[1], reason(part[len(name[0]):])})
		}
	}
	return attempts
}

// reason is the part of a credential's error that says why, in one line: Entra's own words where there are any.
func reason(text string) string {
	if found := entraError.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	text = ruler.ReplaceAllString(advertised.ReplaceAllString(oneLine(text), ""), "")
	text = oneLine(strings.TrimPrefix(text, "ERROR: "))
	if len(text) > maxReason {
		text = fmt.Sprintf("%s… (%d bytes more)", strings.ToValidUTF8(text[:maxReason], ""), len(text)-maxReason)
	}
	return text
}
