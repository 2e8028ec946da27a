use super::*;

fn plain() -> CommandLine {
    CommandLine {
        kamethod: false,
        interface: Interface::Auto,
        bootif: None,
        vlan: None,
        addressing: Addressing::Dhcp,
        server: None,
        session: "getstage2".to_owned(),
        store_log: None,
        debug: false,
        warnings: Vec::new(),
    }
}

fn fixed(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Addressing {
    let gateway = gateway.map(Ipv4Addr::from);
    Addressing::Static(StaticAddress { address: address.into(), prefix, gateway })
}

fn at(host: &str, port: u16) -> Option<Server> {
    Some(Server { host: host.to_owned(), port })
}

#[test]
fn what_is_asked_for_is_understood() {
    let eth0 = Interface::Name("eth0".to_owned());
    for (text, expected) in [
        ("", plain()),
        ("quiet root=/dev/ram3 rw console=ttyS0,115200\n", plain()),
        (
            "automatic=method:ka,interface:eth0,network:dhcp root=/dev/ram3 rw kamethod",
            CommandLine { kamethod: true, interface: eth0.clone(), ..plain() },
        ),
        (
            "automatic=method:ka,interface:auto kamethod BOOTIF=01-52-54-00-AB-cd-ef",
            CommandLine { kamethod: true, bootif: Some(Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef])), ..plain() },
        ),
        (
            "automatic=interface:eth0,network:static,ip:10.0.0.5,netmask:255.255.240.0,gateway:10.0.0.1",
            CommandLine {
                interface: eth0.clone(),
                addressing: fixed([10, 0, 0, 5], 20, Some([10, 0, 0, 1])),
                ..plain()
            },
        ),
        (
            "ka.address=10.0.0.5/24 ka.gateway=10.0.0.1",
            CommandLine { addressing: fixed([10, 0, 0, 5], 24, Some([10, 0, 0, 1])), ..plain() },
        ),
        (
            "automatic=network:static ka.address=10.0.0.5/8",
            CommandLine { addressing: fixed([10, 0, 0, 5], 8, None), ..plain() },
        ),
        ("ka.vlan=4094", CommandLine { vlan: Some(4094), ..plain() }),
        ("ka.server=10.0.0.1", CommandLine { server: at("10.0.0.1", 30765), ..plain() }),
        ("ka.server=golden:4000", CommandLine { server: at("golden", 4000), ..plain() }),
        ("ka.server=[fe80::1]:4000", CommandLine { server: at("fe80::1", 4000), ..plain() }),
        ("ka.server=a ka.server=b", CommandLine { server: at("b", 30765), ..plain() }),
        ("ka.session=lab ka.debug", CommandLine { session: "lab".to_owned(), debug: true, ..plain() }),
        ("ka.session=\"lab\" ka.debug=0", CommandLine { session: "lab".to_owned(), ..plain() }),
        ("kamethodical akamethod", plain()),
        ("ka.store_log=http://logs/ka", CommandLine { store_log: "http://logs/ka".parse().ok(), ..plain() }),
    ] {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    for (text, parameter, expected) in [
        ("automatic=method:nfs", "automatic=method", "ka"),
        ("automatic=ka", "automatic", "key:value pairs"),
        ("automatic=network:bootp", "automatic=network", "dhcp or static"),
        ("automatic=network:static", "automatic=network", "ip:ADDRESS"),
        ("automatic=network:static,ip:10.0.0.5", "automatic=network", "netmask"),
        ("automatic=ip:10.0.0.300", "automatic=ip", "IPv4 address"),
        ("automatic=netmask:255.0.255.0", "automatic=netmask", "255.255.255.0"),
        ("automatic=interface:", "automatic=interface", "auto or the name"),
        ("automatic=interface:a-name-beyond-limits", "automatic=interface", "auto or the name"),
        ("BOOTIF=eth0", "BOOTIF", "01-aa-bb-cc-dd-ee-ff"),
        ("BOOTIF=20-52-54-00-ab-cd-ef", "BOOTIF", "01-aa-bb-cc-dd-ee-ff"),
        ("ka.server=", "ka.server", "HOST"),
        ("ka.server=:4000", "ka.server", "HOST"),
        ("ka.server=golden:0", "ka.server", "1 to 65535"),
        ("ka.server=golden:http", "ka.server", "1 to 65535"),
        ("ka.server=[fe80::1", "ka.server", "HOST"),
        ("ka.session=", "ka.session", "name"),
        ("ka.debug=maybe", "ka.debug", "1 or 0"),
        ("ka.address=10.0.0.5", "ka.address", "prefix length"),
        ("ka.address=10.0.0.5/33", "ka.address", "prefix length"),
        ("ka.address=224.0.0.1/24", "ka.address", "one machine"),
        ("ka.vlan=0", "ka.vlan", "1 to 4094"),
        ("ka.vlan=4095", "ka.vlan", "1 to 4094"),
        ("ka.vlan=lab", "ka.vlan", "1 to 4094"),
        ("ka.gateway=router", "ka.gateway", "IPv4 address"),
        ("ka.store_log=logs", "ka.store_log", "http://HOST"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.parameter, parameter, "{text}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn unknown_names_of_ours_are_warned_of() {
    for (text, part) in [
        ("ka.sevrer=10.0.0.1", "ka.sevrer=10.0.0.1"),
        ("ka.server", "ka.server"),
        ("automatic=disk:sda", "automatic=disk:sda"),
        ("kamethod=yes", "kamethod=yes"),
    ] {
        let line = parse(text).unwrap();
        assert!(!line.kamethod);
        assert_eq!(line.warnings.len(), 1, "{text}");
        assert!(line.warnings[0].contains(part), "{text}: {:?}", line.warnings);
    }
}
