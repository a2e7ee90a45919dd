//! Recipes and what becomes of them; the bootstrap itself needs a network and is tested by
//! `stack:build`.

use super::*;

const DEBIAN_13: &str = include_str!("../../../buildpacks/stacks/debian-13.toml");

fn options() -> BootstrapOptions {
    BootstrapOptions {
        mirror: None,
        security_mirror: None,
        ca_bundle: None,
        cache_dir: "/cache".into(),
        work_dir: "/work".into(),
        deadline: Duration::from_secs(600),
    }
}

#[test]
fn the_bundled_recipe_is_usable_and_the_build_image_extends_the_run_image() {
    let recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    let (run, build) = (recipe.packages(Variant::Run), recipe.packages(Variant::Build));
    assert!(run.iter().all(|package| build.contains(package)));
    assert!(run.contains(&"ca-certificates".to_owned()) && !run.contains(&"python3".to_owned()));
    assert!(build.contains(&"build-essential".to_owned()));
    assert_eq!(recipe.labels(Variant::Run)["io.buildpacks.base.distro.version"], "13");
}

#[test]
fn what_is_compiled_against_the_build_image_finds_its_library_in_the_run_image() {
    // Not a proof, but the mistake that is easily made: a `-dev` package without its library.
    let recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    let run = recipe.packages(Variant::Run);
    for dev in recipe.packages(Variant::Build).iter().filter_map(|name| name.strip_suffix("-dev")) {
        let stem = dev.trim_start_matches("lib").split(['-', '1', '2', '3']).next().unwrap_or(dev);
        let found = run.iter().any(|package| package.contains(stem));
        assert!(found || stem == "python", "no library for {dev}-dev ({stem})");
    }
}

#[test]
fn all_problems_of_a_recipe_are_reported_at_once() {
    let recipe = DEBIAN_13
        .replace("http://deb.debian.org/debian\"", "ftp://x\"")
        .replace("\"/platform\"", "\"/pl at\"")
        .replace("\"zlib1g\"", "\"zlib1g;reboot\"")
        .replace("uid = 1000", "uid = 0");
    let error = StackRecipe::parse(&recipe).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stack's recipe is not usable: mirror: `ftp://x` is not acceptable; \
         directories.root: `/pl at` is not acceptable; \
         run.packages: `zlib1g;reboot` is not acceptable; user: must not be root"
    );
    let error = StackRecipe::parse("name = 1").unwrap_err();
    assert!(matches!(error, Error::Parse { .. }));
    let unknown = format!("surprise = true\n{DEBIAN_13}");
    assert!(matches!(StackRecipe::parse(&unknown), Err(Error::Parse { .. })));
}

#[test]
fn the_operators_mirrors_replace_the_recipes() {
    let recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    assert_eq!(
        recipe.sources(Some("https://mirror.example/debian"), None),
        [
            "deb https://mirror.example/debian trixie main",
            "deb https://mirror.example/debian trixie-updates main",
            "deb http://deb.debian.org/debian-security trixie-security main",
        ]
    );
}

#[test]
fn the_hosts_way_to_reach_mirrors_is_passed_on() {
    let dump = "APT \"\";\nAcquire::http::Proxy \"http://proxy:3128\";\n\
                Acquire::https::Proxy \"\";\nAcquire::Check-Valid-Until \"false\";\n\
                DPkg::Post-Invoke:: \"rm -f x || true\";\n";
    let settings = pick_apt_settings(dump);
    assert_eq!(
        settings,
        ["Acquire::http::Proxy \"http://proxy:3128\"", "Acquire::Check-Valid-Until \"false\""]
    );
    let recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    let mut options = options();
    options.ca_bundle = Some("/etc/ssl/ca.pem".into());
    let arguments = mmdebstrap_arguments(&recipe, Variant::Run, &options, &settings);
    for expected in [
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
        "--aptopt=Acquire::https::CaInfo \"/etc/ssl/ca.pem\"",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    ] {
        assert!(arguments.iter().any(|argument| argument == expected), "{expected}");
    }
}

#[test]
fn available_memory_is_read_in_bytes() {
    assert_eq!(parse_meminfo("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 2 << 20);
    assert_eq!(parse_meminfo(""), 0);
}

#[tokio::test]
async fn output_comes_in_lines_of_bounded_length() {
    let mut lines = Vec::new();
    let output = [b"one\n\n", vec![b'x'; 5000].as_slice(), b"\nlast"].concat();
    read_lines(output.as_slice(), |line| lines.push(line.len())).await.unwrap();
    assert_eq!(lines, [3, 4096, 904, 4]);
}

#[tokio::test]
async fn a_missing_keyring_is_named_with_its_package() {
    let mut recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    recipe.keyring = "/nonexistent.gpg".into();
    let error = bootstrap(&recipe, Variant::Run, Path::new("/x"), &options(), |_| {}).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "keyring `/nonexistent.gpg` is missing (apt-get install debian-archive-keyring)"
    );
}

/// An unreachable mirror must end in an error that shows apt's own words, and leave nothing.
#[tokio::test]
async fn machine_a_failed_bootstrap_shows_why_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = StackRecipe::parse(DEBIAN_13).unwrap();
    let mut options = options();
    options.mirror = Some("http://127.0.0.1:1/debian".to_owned());
    options.security_mirror.clone_from(&options.mirror);
    options.cache_dir = directory.path().join("cache");
    options.work_dir = directory.path().join("work");
    let out = directory.path().join("run.tar");
    let error = bootstrap(&recipe, Variant::Run, &out, &options, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert_eq!(std::fs::read_dir(&options.work_dir).unwrap().count(), 0);
    assert!(!out.exists());
    options.deadline = Duration::ZERO;
    let error = bootstrap(&recipe, Variant::Run, &out, &options, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&options.work_dir).unwrap().count(), 0);
}
