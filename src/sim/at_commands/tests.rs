use std::collections::BTreeMap;

use super::*;

/// A module in a notebook.
struct Paper {
    model: &'static Model,
    imei: Option<String>,
    cfun: u8,
    lost: bool,
    bands: BTreeMap<BandSet, Vec<u16>>,
    items: BTreeMap<String, Vec<u8>>,
}

impl Memory for Paper {
    fn model(&self) -> &'static Model {
        self.model
    }
    fn revision(&self) -> String {
        "RM520NGLAAR03A03M4G_04.211.04.211".to_owned()
    }
    fn imei(&self) -> Option<String> {
        self.imei.clone()
    }
    fn set_imei(&mut self, imei: &str) -> bool {
        self.imei = Some(imei.to_owned());
        true
    }
    fn serial_number(&self) -> Option<String> {
        Some("MPQ26K000000001".to_owned())
    }
    fn cfun(&self) -> u8 {
        self.cfun
    }
    fn set_cfun(&mut self, level: u8) -> bool {
        self.cfun = level;
        true
    }
    fn is_lost(&self) -> bool {
        self.lost
    }
    fn bands(&self, set: BandSet) -> Vec<u16> {
        self.bands.get(&set).cloned().unwrap_or_default()
    }
    fn set_bands(&mut self, set: BandSet, bands: &[u16]) -> bool {
        self.bands.insert(set, bands.to_vec());
        true
    }
    fn item(&self, path: &str) -> Option<Vec<u8>> {
        self.items.get(path).cloned()
    }
    fn set_item(&mut self, path: &str, content: &[u8]) -> bool {
        self.items.insert(path.to_owned(), content.to_vec());
        true
    }
    fn restore_golden(&mut self) -> bool {
        false
    }

    fn bad_blocks(&self) -> u32 {
        2
    }
}

fn paper(model: &str) -> Paper {
    Paper {
        model: Model::by_name(model).expect("a model"),
        imei: Some("867395075101903".to_owned()),
        cfun: 1,
        lost: false,
        bands: BTreeMap::from([
            (BandSet::LteConfig, vec![1, 3, 7]),
            (BandSet::NrSaConfig, vec![77, 78]),
            (BandSet::NrSaPolicy, vec![78, 79]),
        ]),
        items: BTreeMap::from([("/nv/item_files/rfnv/00020175".to_owned(), vec![0x0a, 0xff])]),
    }
}

fn ask(memory: &mut Paper, line: &str) -> Vec<String> {
    let (reply, _) = execute(line, memory);
    reply.lines.into_iter().chain([reply.code]).collect()
}

#[test]
fn replies_are_those_of_real_modules() {
    let mut nr = paper("RM520N-GL");
    let golden: &[(&str, &[&str])] = &[
        ("AT", &["OK"]),
        ("ati", &["Quectel", "RM520N-GL", "Revision: RM520NGLAAR03A03M4G", "OK"]),
        ("AT+QGMR", &["RM520NGLAAR03A03M4G_04.211.04.211", "OK"]),
        ("AT+CGSN", &["867395075101903", "OK"]),
        ("AT+EGMR=0,7", &["+EGMR: \"867395075101903\"", "OK"]),
        ("AT+CFUN?", &["+CFUN: 1", "OK"]),
        ("AT+CPIN?", &["+CME ERROR: 10"]),
        ("AT+QNWPREFCFG=\"nr5g_band\"", &["+QNWPREFCFG: \"nr5g_band\",77:78", "OK"]),
        ("AT+QNWPREFCFG=\"nsa_nr5g_band\"", &["+QNWPREFCFG: \"nsa_nr5g_band\",0", "OK"]),
        ("AT+QNVFR=\"/nv/item_files/rfnv/00020175\"", &["+QNVFR: 0AFF", "OK"]),
        ("AT+QNVFR=\"/nv/item_files/rfnv/00000000\"", &["+CME ERROR: 22"]),
        ("AT+QCFG=\"usbcfg\"", &["+QCFG: \"usbcfg\",0x2C7C,0x0801,1,1,1,1,1,0,0", "OK"]),
        ("AT+NOSUCH", &["ERROR"]),
        ("hello", &["ERROR"]),
        ("é", &["ERROR"]),
        ("AT+QNVFW=\"/x\",0z", &["ERROR"]),
    ];
    for (line, expected) in golden {
        assert_eq!(ask(&mut nr, line), *expected, "{line}");
    }
    let capability = ask(&mut nr, "AT+QNWPREFCFG=\"ue_capability_band\"");
    assert!(
        capability.contains(&"+QNWPREFCFG: \"nr5g_band\",78".to_owned()),
        "configuration and policy: {capability:?}"
    );
    let mut lte = paper("EG25-G");
    assert_eq!(ask(&mut lte, "AT+QCFG=\"band\""), ["+QCFG: \"band\",0x2ff,0x45,0x0", "OK"]);
    assert_eq!(ask(&mut lte, "AT+QNWPREFCFG=\"nr5g_band\""), ["ERROR"]);
}

#[test]
fn a_lost_efs_is_told_in_the_family_s_way() {
    for (model, expected) in [("EG25-G", "+CME ERROR: 3"), ("RM500Q-GL", "+CME ERROR: 0")] {
        let mut lost = Paper { lost: true, imei: None, cfun: 5, ..paper(model) };
        assert_eq!(ask(&mut lost, "AT+CFUN?"), ["+CFUN: 5", "OK"]);
        assert_eq!(ask(&mut lost, "AT+CFUN=1"), [expected]);
        assert_eq!(ask(&mut lost, "AT+CGSN"), ["+CME ERROR: memory failure"]);
        assert_eq!(ask(&mut lost, "AT+CSQ"), ["+CSQ: 99,99", "OK"]);
    }
}

#[test]
fn writing_commands_write() {
    let mut nr = paper("RM500Q-GL");
    assert_eq!(ask(&mut nr, "AT+QNVFW=\"/nv/item_files/modem/mmode/cmph/ftm\",00"), ["OK"]);
    assert_eq!(nr.items["/nv/item_files/modem/mmode/cmph/ftm"], [0]);
    assert_eq!(ask(&mut nr, "AT+QNWPREFCFG=\"nr5g_band\",78:79"), ["OK"]);
    assert_eq!(nr.bands[&BandSet::NrSaConfig], [78, 79]);
    assert_eq!(ask(&mut nr, "AT+CFUN=4"), ["OK"]);
    assert_eq!(nr.cfun, 4);
    assert_eq!(execute("AT+CFUN=1,1", &mut nr).1, Effect::Restart);
    assert_eq!(execute("ATE0", &mut nr).1, Effect::Echo(false));
    assert_eq!(ask(&mut nr, "AT+EGMR=1,7,\"123\""), ["ERROR"]);
}
