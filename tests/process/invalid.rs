//! Files with mistakes: the binary says exactly what stands beside them, opens no device and makes nothing.

use std::path::Path;

use crate::place::{Place, copy};

#[test]
fn invalid_files_end_with_status_two_before_anything_is_touched() {
    let place = Place::new();
    let directory = Path::new("tests/data/invalid");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &place.path(directory));
    let before = place.everything();
    let mut files = 0;
    for path in before.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        let Some(name) = path.strip_prefix(place.path(directory)).ok().filter(|name| name.components().count() == 1)
        else {
            continue;
        };
        let expected = place.read(path.with_extension("txt"));
        let file = directory.join(name);
        // `check` reads both kinds; a station is also refused by `run`.
        let mut commands = vec![format!("check {}", file.display())];
        if name.to_string_lossy().starts_with("station") {
            commands.push(format!("run {} --listen off", file.display()));
        }
        for command in commands {
            let ran = place.run(&command);
            assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{command}");
            assert_eq!(ran.err, expected, "{command}");
        }
        files += 1;
    }
    assert!(files >= 34, "only {files} invalid files");
    assert_eq!(place.everything(), before, "something was made");
}

#[test]
fn a_station_whose_profile_is_invalid_is_refused_with_the_profiles_position() {
    let place = Place::new();
    place.change("profiles/ec25.yaml", |text| text.replace("boots: 2", "boots: 9"));
    let before = place.everything();
    let ran = place.run("run stations/demo.yaml --listen off");
    assert_eq!(ran.status, Some(2));
    let line = place.read("profiles/ec25.yaml").lines().position(|line| line.starts_with("boots:")).expect("a key") + 1;
    assert!(ran.err.starts_with(&format!("profiles/ec25.yaml:{line}:8: ")), "{}", ran.err);
    assert_eq!(place.everything(), before);
}
