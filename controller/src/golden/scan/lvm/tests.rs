use super::*;

/// What lvm2 2.03 printed of a group on three disks.
const VGS: &str = r#"
  {
      "report": [
          {
              "vg": [
                  {"vg_name":"vg0", "vg_uuid":"ZBqLtf-h1mh-o07w-efc9-iup5-3W8g-2ZzymS", "vg_attr":"wz--n-", "vg_extent_size":"4194304", "vg_extent_count":"297", "vg_free_count":"277", "vg_missing_pv_count":"0", "pv_count":"3"}
              ]
          }
      ]
  }
"#;
const PVS: &str = r#"
  {
      "report": [
          {
              "pv": [
                  {"pv_name":"/dev/sda3", "pv_uuid":"5F6roW-dRu2-LPwH-DSXz-bvzw-mPRh-wGJvyC", "vg_name":"vg0"},
                  {"pv_name":"/dev/sdb1", "pv_uuid":"SUyt64-e3W3-fNKx-s5Fj-GTYI-wdAD-qqtvwt", "vg_name":"vg0"},
                  {"pv_name":"/dev/sdc1", "pv_uuid":"u73yvf-4ux1-2vcq-7sgE-CK0K-X46T-58Wssl", "vg_name":""}
              ]
          }
      ]
  }
"#;

/// A row of `lvs`, by what differs from a plain linear volume.
fn row(name: &str, changes: &[(&str, &str)]) -> String {
    let mut fields: BTreeMap<&str, String> = [
        ("vg_name", "vg0"),
        ("lv_uuid", "90PpQa-3uXd-2xCd-Z1L7-MGbY-oZqR-YgYOWE"),
        ("lv_size", "41943040"),
        ("lv_attr", "-wi-ao----"),
        ("lv_role", "public"),
        ("segtype", "linear"),
        ("stripes", "1"),
        ("data_stripes", "1"),
        ("stripe_size", "0"),
        ("pool_lv", ""),
        ("origin", ""),
        ("chunk_size", "0"),
        ("lv_metadata_size", ""),
        ("data_percent", ""),
        ("metadata_percent", ""),
        ("lv_health_status", ""),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    fields.insert("lv_name", name.to_owned());
    fields.insert("lv_dm_path", format!("/dev/mapper/{}", ka::plan::mapper_name("vg0", name)));
    for (key, value) in changes {
        fields.insert(key, (*value).to_owned());
    }
    serde_json::to_string(&fields).unwrap()
}

fn volumes_of(rows: &[String]) -> Vec<Logical> {
    let lvs = format!(r#"{{"report": [{{"lv": [{}]}}]}}"#, rows.join(","));
    let [group] = parse(VGS, PVS, &lvs).unwrap().try_into().unwrap();
    group.volumes
}

#[test]
fn a_group_is_read_from_three_reports() {
    let lvs = r#"
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"fast", "vg_name":"vg0", "lv_uuid":"n5iTS4-FSaX-01hD-cJjn-AXep-dPWX-Ma99iQ", "lv_size":"41943040", "lv_attr":"-wi-XX----", "lv_role":"public", "segtype":"striped", "stripes":"2", "data_stripes":"2", "stripe_size":"65536", "pool_lv":"", "origin":"", "chunk_size":"0", "lv_metadata_size":"", "data_percent":"", "metadata_percent":"", "lv_health_status":"", "lv_dm_path":"/dev/mapper/vg0-fast"},
                  {"lv_name":"root", "vg_name":"vg0", "lv_uuid":"90PpQa-3uXd-2xCd-Z1L7-MGbY-oZqR-YgYOWE", "lv_size":"41943040", "lv_attr":"-wi-XX----", "lv_role":"public", "segtype":"linear", "stripes":"1", "data_stripes":"1", "stripe_size":"0", "pool_lv":"", "origin":"", "chunk_size":"0", "lv_metadata_size":"", "data_percent":"", "metadata_percent":"", "lv_health_status":"", "lv_dm_path":"/dev/mapper/vg0-root"}
              ]
          }
      ]
  }
"#;
    let groups = parse(VGS, PVS, lvs).unwrap();
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.name.as_str(), group.extent, group.extents), ("vg0", 4 << 20, 297));
    assert_eq!(group.members, [PathBuf::from("/dev/sda3"), PathBuf::from("/dev/sdb1")]);
    assert_eq!(group.fault, None);
    let [fast, root] = group.volumes.as_slice() else { panic!("{group:?}") };
    assert_eq!((root.size, root.node.to_str().unwrap()), (40 << 20, "/dev/mapper/vg0-root"));
    let of = |layout| Fate::Made { layout: GoldenLayout::Of(layout), without: None };
    assert_eq!(root.fate, of(LogicalLayout::Linear));
    assert_eq!(fast.fate, of(LogicalLayout::Striped { stripes: 2, stripe_size: 65_536 }));
}

#[test]
fn every_kind_of_volume_has_its_fate() {
    let raid = |level, data, redundant, stripe_size| {
        let layout = GoldenLayout::Of(LogicalLayout::Raid(Raid { level, data, redundant, stripe_size }));
        Some(Fate::Made { layout, without: None })
    };
    let linear = |without| Some(Fate::Made { layout: GoldenLayout::Of(LogicalLayout::Linear), without });
    let pool = LogicalLayout::ThinPool { metadata: 4 << 20, chunk: 65_536 };
    let striped =
        [("segtype", "raid5_ls"), ("stripes", "3"), ("data_stripes", "2"), ("stripe_size", "65536")];
    for (changes, expected) in [
        (
            vec![("segtype", "raid1"), ("stripes", "2"), ("data_stripes", "2")],
            raid(RaidLevel::Raid1, 1, 1, 0),
        ),
        (
            vec![("segtype", "mirror"), ("stripes", "2"), ("data_stripes", "2")],
            raid(RaidLevel::Raid1, 1, 1, 0),
        ),
        (striped.to_vec(), raid(RaidLevel::Raid5, 2, 1, 65_536)),
        (
            vec![("segtype", "raid10"), ("stripes", "4"), ("data_stripes", "2"), ("stripe_size", "65536")],
            raid(RaidLevel::Raid10, 2, 2, 65_536),
        ),
        (vec![("segtype", "cache"), ("pool_lv", "[cpool]")], linear(Some("its cache"))),
        (vec![("segtype", "linear"), ("lv_role", "public,snapshot,thicksnapshot")], Some(Fate::Skipped)),
        (vec![("segtype", "thin"), ("lv_role", "public,snapshot,thinsnapshot")], Some(Fate::Skipped)),
        (vec![("segtype", "linear"), ("lv_role", "public,origin,thickorigin")], linear(None)),
        (
            vec![
                ("segtype", "thin-pool"),
                ("chunk_size", "65536"),
                ("lv_metadata_size", "4194304"),
                ("data_percent", "81.25"),
                ("metadata_percent", "10.94"),
            ],
            Some(Fate::Made { layout: GoldenLayout::Of(pool), without: None }),
        ),
        (
            vec![("segtype", "thin"), ("pool_lv", "pool")],
            Some(Fate::Made { layout: GoldenLayout::ThinIn("pool".to_owned()), without: None }),
        ),
        (vec![("segtype", "thin-pool"), ("data_percent", "100.00")], None),
        (vec![("segtype", "vdo")], None),
        (vec![("lv_health_status", "partial")], None),
    ] {
        let [volume] = volumes_of(&[row("x", &changes)]).try_into().unwrap();
        match expected {
            Some(expected) => assert_eq!(volume.fate, expected, "{changes:?}"),
            None => assert!(matches!(volume.fate, Fate::Refused(_)), "{changes:?}: {volume:?}"),
        }
    }
}

#[test]
fn pools_come_before_what_lies_in_them_and_segments_are_one_volume() {
    let rows = [
        row("a-thin", &[("segtype", "thin"), ("pool_lv", "pool")]),
        row("data", &[]),
        row("data", &[("segtype", "striped"), ("stripes", "2")]),
        row("pool", &[("segtype", "thin-pool")]),
    ];
    let names: Vec<String> = volumes_of(&rows).into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["data", "pool", "a-thin"]);
}

#[test]
fn a_group_that_is_not_whole_is_told_with_the_way_out() {
    for (attributes, missing, part) in [
        ("wz--n-", 0, None),
        ("wz-pn-", 1, Some("vgreduce --removemissing")),
        ("wzx-n-", 0, Some("vgimport")),
        ("wz--ns", 0, Some("cluster")),
    ] {
        let fault = fault(attributes, missing);
        match part {
            None => assert_eq!(fault, None),
            Some(part) => {
                assert!(fault.as_ref().is_some_and(|f| f.contains(part)), "{attributes}: {fault:?}")
            }
        }
    }
}

#[test]
fn what_is_not_understood_is_an_error_that_names_it() {
    let error = parse("no", PVS, r#"{"report": []}"#).unwrap_err().to_string();
    assert!(error.starts_with("lvm vgs: "), "{error}");
    let odd = format!(r#"{{"report": [{{"lv": [{}]}}]}}"#, row("root", &[("lv_size", "4g")]));
    let error = parse(VGS, PVS, &odd).unwrap_err().to_string();
    assert_eq!(error, "lvm lvs: expected a number for lv_size of root, found `4g`");
}
