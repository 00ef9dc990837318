package deploy

import (
	"bytes"
	"regexp"
	"slices"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

var comment = regexp.MustCompile(`(?m)^(#.*|---)$`)

// objects are those of some manifests, by their kind.
type objects struct {
	accounts    []corev1.ServiceAccount
	configs     []corev1.ConfigMap
	deployments []appsv1.Deployment
	jobs        []batchv1.Job
	services    []corev1.Service
	policies    []networkingv1.NetworkPolicy
	monitors    []monitoringv1.ServiceMonitor
}

// decode reads manifests strictly: a field that Kubernetes does not know is an error, and so is a kind that is not
// checked.
func decode(t *testing.T, text []byte) (all objects) {
	for part := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind struct{ Kind string }
		require.NoError(t, yaml.Unmarshal(part, &kind))
		switch kind.Kind {
		case "":
			assert.Empty(t, bytes.TrimSpace(comment.ReplaceAll(part, nil)), "there is no kind")
		case "ServiceAccount":
			all.accounts = decodeOne(t, part, all.accounts)
		case "ConfigMap":
			all.configs = decodeOne(t, part, all.configs)
		case "Deployment":
			all.deployments = decodeOne(t, part, all.deployments)
		case "Job":
			all.jobs = decodeOne(t, part, all.jobs)
		case "Service":
			all.services = decodeOne(t, part, all.services)
		case "NetworkPolicy":
			all.policies = decodeOne(t, part, all.policies)
		case "ServiceMonitor":
			all.monitors = decodeOne(t, part, all.monitors)
		default:
			t.Errorf("%q is not checked", kind.Kind)
		}
	}
	return all
}

func decodeOne[T any](t *testing.T, text []byte, others []T) []T {
	var object T
	require.NoError(t, yaml.UnmarshalStrict(text, &object), "%s", text)
	return append(others, object)
}

// pods are the templates of all pods.
func (all objects) pods() (pods []corev1.PodTemplateSpec) {
	for _, d := range all.deployments {
		pods = append(pods, d.Spec.Template)
	}
	for _, j := range all.jobs {
		pods = append(pods, j.Spec.Template)
	}
	return pods
}

func containers(pod corev1.PodSpec) []corev1.Container {
	return slices.Concat(pod.InitContainers, pod.Containers)
}

// assertComplete checks what Kubernetes finds out only when it runs the pods, or never: what refers to what.
func (all objects) assertComplete(t *testing.T) {
	for _, d := range all.deployments {
		assertSelects(t, d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
	for _, j := range all.jobs {
		assert.Equal(t, corev1.RestartPolicyNever, j.Spec.Template.Spec.RestartPolicy)
	}
	for _, pod := range all.pods() {
		assert.Equal(t, "true", pod.Labels["azure.workload.identity/use"])
		assert.True(t, slices.ContainsFunc(all.accounts, func(a corev1.ServiceAccount) bool {
			return a.Name == pod.Spec.ServiceAccountName
		}), pod.Spec.ServiceAccountName)
		assertConfined(t, pod.Spec)
		all.assertMounts(t, pod.Spec)
	}
	for _, s := range all.services {
		for _, d := range all.deployments {
			assertSelects(t, s.Spec.Selector, d.Spec.Template.Labels)
			for _, port := range s.Spec.Ports {
				assert.True(t, hasPort(d.Spec.Template.Spec, port.TargetPort.String()), port.TargetPort.String())
			}
		}
	}
	for _, p := range all.policies {
		assertSelects(t, p.Spec.PodSelector.MatchLabels, all.deployments[0].Spec.Template.Labels)
	}
	for _, m := range all.monitors {
		assertSelects(t, m.Spec.Selector.MatchLabels, all.services[0].Labels)
		for _, e := range m.Spec.Endpoints {
			assert.True(t, slices.ContainsFunc(all.services[0].Spec.Ports, func(p corev1.ServicePort) bool {
				return p.Name == e.Port
			}), e.Port)
		}
	}
}

func assertSelects(t *testing.T, selector, labels map[string]string) {
	assert.NotEmpty(t, selector)
	for name, value := range selector {
		assert.Equal(t, value, labels[name], name)
	}
}

func hasPort(pod corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(containers(pod), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	})
}

// assertMounts checks that what is mounted is a volume, that each of these is mounted, and that what comes of a
// ConfigMap is there.
func (all objects) assertMounts(t *testing.T, pod corev1.PodSpec) {
	volumes := map[string]corev1.Volume{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
	}
	mounted := map[string]bool{}
	for _, c := range containers(pod) {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
			volume, is := volumes[m.Name]
			assert.True(t, is, "%s mounts %s", c.Name, m.Name)
			if volume.ConfigMap != nil {
				assert.NotEmpty(t, all.file(volume.ConfigMap.Name, m.SubPath), "%s of %s", m.SubPath, volume.ConfigMap.Name)
			}
		}
		for _, from := range c.EnvFrom {
			assert.True(t, slices.ContainsFunc(all.configs, func(m corev1.ConfigMap) bool {
				return m.Name == from.ConfigMapRef.Name
			}), from.ConfigMapRef.Name)
		}
	}
	for name := range volumes {
		assert.True(t, mounted[name], "%s is mounted", name)
	}
}

// file is what a ConfigMap has under a name.
func (all objects) file(config, name string) string {
	for _, m := range all.configs {
		if m.Name == config {
			return m.Data[name]
		}
	}
	return ""
}
