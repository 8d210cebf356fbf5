// Checks what GitOps tools make of LocalClusters, Registries, pools and claims: the health scripts of deploy/gitops/argocd, run by the Lua
// that Argo CD uses, in the format of its own tests; kstatus, which Flux, kpt and cli-utils use; and the CEL expressions
// of deploy/gitops/flux. The objects are written by tests/gitops.rs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/google/cel-go/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

var failed = false

func fail(format string, args ...any) {
	failed = true
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func read(path string, into any) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		os.Exit(1)
	}
}

// toLua converts JSON values as Argo CD does.
func toLua(l *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case int64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := l.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(l, item))
		}
		return table
	case map[string]any:
		table := l.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(l, item))
		}
		return table
	}
	return lua.LNil
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func runLua(script string, object map[string]any) (health, error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	// The libraries that Argo CD opens.
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString}, {lua.MathLibName, lua.OpenMath},
	} {
		l.Push(l.NewFunction(lib.open))
		l.Push(lua.LString(lib.name))
		l.Call(1, 0)
	}
	l.SetGlobal("obj", toLua(l, object))
	if err := l.DoString(script); err != nil {
		return health{}, err
	}
	table, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("the script returns %v", l.Get(-1))
	}
	return health{table.RawGetString("status").String(), table.RawGetString("message").String()}, nil
}

// testArgo runs a health_test.yaml.
func testArgo(directory string) {
	script, err := os.ReadFile(filepath.Join(directory, "health.lua"))
	if err != nil {
		fail("%v", err)
		return
	}
	var suite struct {
		Tests []struct {
			HealthStatus health `json:"healthStatus"`
			InputPath    string `json:"inputPath"`
		} `json:"tests"`
	}
	read(filepath.Join(directory, "health_test.yaml"), &suite)
	if len(suite.Tests) == 0 {
		fail("%s has no tests", directory)
	}
	for _, test := range suite.Tests {
		path := filepath.Join(directory, test.InputPath)
		var object map[string]any
		read(path, &object)
		got, err := runLua(string(script), object)
		if err != nil {
			fail("%s: %v", path, err)
		} else if got != test.HealthStatus {
			fail("%s: the health is %+v, expected is %+v", path, got, test.HealthStatus)
		}
	}
}

// expectation is what kstatus and the expressions for Flux make of an object.
type expectation struct {
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
}

type fluxChecks struct {
	Spec struct {
		HealthCheckExprs []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Current    string `json:"current"`
			InProgress string `json:"inProgress"`
			Failed     string `json:"failed"`
		} `json:"healthCheckExprs"`
	} `json:"spec"`
}

// holds evaluates an expression as Flux does: the fields of the object are variables. An error fails its health check.
func holds(expression string, object map[string]any) bool {
	if expression == "" {
		return false
	}
	var options []cel.EnvOption
	for _, field := range []string{"apiVersion", "kind", "metadata", "spec", "status", "data"} {
		options = append(options, cel.Variable(field, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		fail("%v", err)
		return false
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		fail("%s: %v", expression, issues.Err())
		return false
	}
	program, err := env.Program(ast)
	if err != nil {
		fail("%s: %v", expression, err)
		return false
	}
	value, _, err := program.Eval(object)
	if err != nil {
		fail("%s: %v", expression, err)
		return false
	}
	return value.Value() == true
}

// flux returns what Flux reports: in the order of its evaluator, an object of an older generation is in progress.
func flux(checks fluxChecks, object map[string]any) string {
	for _, check := range checks.Spec.HealthCheckExprs {
		if check.APIVersion != object["apiVersion"] || check.Kind != object["kind"] {
			continue
		}
		metadata := object["metadata"].(map[string]any)
		if status, ok := object["status"].(map[string]any); ok {
			if observed, ok := status["observedGeneration"]; ok && !reflect.DeepEqual(observed, metadata["generation"]) {
				return "InProgress"
			}
		}
		for _, phase := range []struct{ expression, name string }{
			{check.InProgress, "InProgress"}, {check.Failed, "Failed"}, {check.Current, "Current"},
		} {
			if holds(phase.expression, object) {
				return phase.name
			}
		}
		return "InProgress"
	}
	return "no expressions"
}

func testStatus(directory string, expected map[string]expectation, checks fluxChecks) {
	files, _ := filepath.Glob(filepath.Join(directory, "testdata", "*.yaml"))
	if len(files) != len(expected) {
		fail("%s has %d objects, and %d are expected", directory, len(files), len(expected))
	}
	for _, path := range files {
		want, known := expected[strings.TrimSuffix(filepath.Base(path), ".yaml")]
		if !known {
			fail("nothing is expected of %s", path)
			continue
		}
		var object map[string]any
		read(path, &object)
		// As from JSON of the API server, with integers.
		text, _ := yaml.Marshal(object)
		parsed := &unstructured.Unstructured{}
		json, err := yaml.YAMLToJSON(text)
		if err == nil {
			err = parsed.UnmarshalJSON(json)
		}
		if err != nil {
			fail("%s: %v", path, err)
			continue
		}
		result, err := status.Compute(parsed)
		if err != nil {
			fail("%s: %v", path, err)
		} else if result.Status.String() != want.Kstatus {
			fail("%s: kstatus is %s (%s), expected is %s", path, result.Status, result.Message, want.Kstatus)
		}
		if got := flux(checks, parsed.Object); want.Flux != "" && got != want.Flux {
			fail("%s: the expressions for Flux say %s, expected is %s", path, got, want.Flux)
		}
	}
}

func main() {
	root := os.Args[1]
	var expected map[string]map[string]expectation
	read(filepath.Join(root, "tests/gitops/expected.yaml"), &expected)
	var checks fluxChecks
	read(filepath.Join(root, "deploy/gitops/flux/kustomization.yaml"), &checks)
	for _, kind := range []string{"LocalCluster", "Registry", "LocalClusterPool", "LocalClusterClaim"} {
		directory := filepath.Join(root, "deploy/gitops/argocd/localcluster.dev", kind)
		testArgo(directory)
		testStatus(directory, expected[kind], checks)
	}
	if failed {
		os.Exit(1)
	}
	fmt.Println("gitops: ok")
}
